"""A site of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.conduct import Level
from tests.integration.conduct.harness import Site
from tests.unit.workers.conduct.world import policy, rule
from workers.adapters.embedded_addresses import Addresses

LEVELS = (Level(score=3, recommend="warn"), Level(score=6, recommend="mute", for_s=600))
POLICY = policy(
    rule(levels=LEVELS),
    rule("raid", per="conversation", counts="authors", levels=(Level(score=4, recommend="human_review"),)),
)


@pytest.fixture
def site(local_stack: Addresses, fresh_name: Callable[[str], str], tmp_path: Path) -> Iterator[Site]:
    made = Site(local_stack.bootstrap_servers, tmp_path, fresh_name("conduct"), POLICY)
    made.create()
    try:
        yield made
    finally:
        made.close()
