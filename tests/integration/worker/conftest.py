"""Topics of their own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.worker.harness import Topics, topics_of
from workers.adapters.embedded_addresses import Addresses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what the tests of a module share, such as certificates."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def topics(local_stack: Addresses, fresh_name: Callable[[str], str], tmp_path: Path) -> Iterator[Topics]:
    made = Topics(local_stack.bootstrap_servers, local_stack.redis_url, tmp_path, fresh_name("worker"))
    made.create()
    with topics_of(made):
        yield made
