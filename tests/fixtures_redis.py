"""Real Redis servers, started when a test asks for them: shared ones, and `own_…` ones to be broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.redis_sites import ClusterSite, Node, SentinelSite, stop
from workers.errors import StartError


def _started(site: Any, end: Any) -> Iterator[Any]:
    try:
        try:
            site.start()
        except StartError as error:
            require(False, str(error))
        yield site
    finally:
        end()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One server that all tests share."""
    node = Node(tmp_path_factory.mktemp("redis"))
    yield from _started(node, lambda: stop([node]))


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSite]:
    """A cluster that all tests share."""
    site = ClusterSite(tmp_path_factory.mktemp("cluster"))
    yield from _started(site, site.stop)


@pytest.fixture(scope="session")
def redis_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSite]:
    """A master behind sentinels that all tests share."""
    site = SentinelSite(tmp_path_factory.mktemp("sentinels"))
    yield from _started(site, site.stop)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Node]:
    """A server that the test may break."""
    node = Node(tmp_path / "redis")
    yield from _started(node, lambda: stop([node]))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterSite]:
    """A cluster that the test may break."""
    site = ClusterSite(tmp_path / "cluster")
    yield from _started(site, site.stop)


@pytest.fixture
def own_sentinels(tmp_path: Path) -> Iterator[SentinelSite]:
    """A master behind sentinels that the test may break."""
    site = SentinelSite(tmp_path / "sentinels")
    yield from _started(site, site.stop)
