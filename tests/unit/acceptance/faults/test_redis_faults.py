"""Whether a worker that does not use Redis is found out."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.faults import own_word, redis_faults
from tests.acceptance.faults.redis_faults import assert_used, failing, failures


class FakeSite:
    workers = ("the worker",)

    def assert_alive(self) -> None: ...

    def until(self, condition: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        assert any(condition() for _ in range(20)), f"no {awaited}"


class FakeRedis:
    """`kept`: keys that the worker writes between two looks."""

    def __init__(self, kept: int) -> None:
        self._kept, self.keys = kept, 1_000

    def flushall(self) -> None:
        self.keys = 0

    def dbsize(self) -> int:
        self.keys += self._kept
        return self.keys


SITE: Any = FakeSite()


def test_keys_of_before_do_not_count_as_the_workers() -> None:
    assert_used(SITE, FakeRedis(kept=1))
    with pytest.raises(AssertionError, match="verdicts that the worker keeps"):
        assert_used(SITE, FakeRedis(kept=0))


def test_failures_are_of_all_operations_once_the_worker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Iterator[list[float] | None] = iter([None, [2.0, 3.0, 0.0]])
    monkeypatch.setattr(own_word, "samples", lambda *_: next(told))
    assert failures(SITE) == 5.0


@pytest.mark.parametrize(
    ("counts", "passes"), [((3.0, 4.0), True), ((3.0, 3.0, 4.0), True), ((3.0, 3.0), False)]
)
def test_a_fault_that_made_nothing_fail_is_none(
    counts: tuple[float, ...], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, *after = counts
    told = itertools.chain([before], after, itertools.repeat(after[-1]))
    monkeypatch.setattr(redis_faults, "failures", lambda _site: next(told))
    monkeypatch.setattr(redis_faults, "_client", lambda _site: contextlib.nullcontext(FakeRedis(kept=1)))
    expected = (
        contextlib.nullcontext() if passes else pytest.raises(AssertionError, match="no failure of its cache")
    )
    with expected:
        failing(lambda _site, _rng: None)(SITE, random.Random(0))
