"""What is told of Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.workers.doctor.facts import good_redis
from workers.doctor.facts import RedisFacts
from workers.doctor.redis_servers import redis_findings


def statuses(facts: RedisFacts) -> list[str]:
    return [one.status for one in redis_findings(facts)]


def test_a_good_server_is_well() -> None:
    assert statuses(good_redis()) == ["ok", "ok"]


def test_servers_that_do_not_answer_are_a_problem() -> None:
    (one,) = redis_findings(RedisFacts((), silent=3, errors=("ConnectionError",)))
    assert (one.status, one.what) == ("problem", "3 of 3 servers do not answer")


@pytest.mark.parametrize(
    ("error", "word"),
    [("ReadOnlyError", "read-only"), ("OutOfMemoryError", "full"), ("OddError", "OddError")],
)
def test_what_a_server_answers_instead_is_told(error: str, word: str) -> None:
    first, *_ = redis_findings(replace(good_redis(), errors=(error,)))
    assert first.status == "warning"
    assert word in first.what


def test_memory_without_a_limit_or_without_eviction_is_told() -> None:
    assert statuses(good_redis(limit_bytes=0)) == ["ok", "warning"]
    assert "when it is full" in list(redis_findings(good_redis(when_full="noeviction")))[1].what
    full = good_redis(when_full="noeviction", used_bytes=2**30)
    assert "nearly full" in list(redis_findings(full))[1].what


def test_what_a_user_may_not_ask_is_not_held_against_it() -> None:
    assert statuses(good_redis(limit_bytes=None)) == ["ok", "not_checked"]
