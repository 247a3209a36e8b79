"""Whether the moment of a kill is the one that the row promises."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.acceptance.faults import own_word, worker_faults
from tests.acceptance.records import Place

HEAD = Place("events", 1, 50)


class FakeSite:
    """`behind`, `answered`: what the watch tells of each slow event in turn. `committed`: offsets of the
    slow one's partition, one each time that it is asked; the last stays."""

    workers = ("the worker",)
    repeat = 1

    def __init__(self, behind: list[int], answered: list[bool], *committed: int) -> None:
        self.heads: list[Place] = []
        self._committed = [*committed] or [HEAD.offset]
        self.load = SimpleNamespace(add=self._add, ends=lambda: {0: 110, 1: 91})
        self.watch = SimpleNamespace(
            wait=self._wait,
            is_answered=lambda head: answered[self.heads.index(head)],
            answered_behind=lambda head: behind[self.heads.index(head)] if self.heads else behind[0],
        )

    def _add(self, planned: list[Any]) -> list[Place]:
        self.heads += [Place("events", 0, 1_000 * len(self.heads)) for _ in planned]
        return self.heads[-1:]

    def _wait(self, until: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        assert until(), f"no {awaited}"

    def assert_alive(self) -> None: ...

    def committed(self) -> dict[int, int]:
        found = self._committed.pop(0) if len(self._committed) > 1 else self._committed[0]
        return {0: 100, 1: found}


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(worker_faults, "_replace", found.append)
    return found


def test_a_slow_event_that_is_answered_too_early_is_followed_by_another(replaced: list[Any]) -> None:
    site: Any = FakeSite([3, 40], [True, False])
    worker_faults.killed_with_a_slow_head(site, random.Random(0))
    assert (len(site.heads), replaced) == (2, [site])


def test_nobody_is_killed_when_every_slow_event_is_answered(replaced: list[Any]) -> None:
    site: Any = FakeSite([40] * 5, [True] * 5)
    with pytest.raises(AssertionError, match="5 slow events were answered"):
        worker_faults.killed_with_a_slow_head(site, random.Random(0))
    assert not replaced


def metrics(stage: str, seconds: float, window: int) -> tuple[int, str]:
    labels = f'partition="{HEAD.partition}",waiting_for="{stage}"'
    return 200, f"rsafe_oldest_uncommitted_seconds{{{labels}}} {seconds}\nrsafe_window_records {window}\n"


@pytest.mark.parametrize(
    ("told", "waiting"),
    [
        (metrics("guard", 2.5, 45), 34),  # 45 read, of these at most 10 elsewhere, and the head itself
        (metrics("guard", 2.5, 100), 40),  # no more than were published behind it
        (metrics("guard", 0.2, 45), 0),
        (metrics("commit", 2.5, 45), 0),
        (None, 0),
    ],
)
def test_what_waits_in_transactions_is_what_was_read_behind_the_slow_one(
    told: tuple[int, str] | None, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_word, "ask", lambda _worker, _path: told)
    site: Any = FakeSite([0], [False])
    assert worker_faults._waiting_behind(site, HEAD) == waiting


def test_a_decision_behind_an_open_offset_in_transactions_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_word, "ask", lambda _worker, _path: metrics("guard", 2.5, 45))
    site: Any = FakeSite([1], [False])
    with pytest.raises(AssertionError, match="committed decisions behind"):
        worker_faults._waiting_behind(site, HEAD)


def test_a_slow_one_that_is_done_while_it_is_looked_at_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_word, "ask", lambda _worker, _path: metrics("guard", 5.9, 45))
    site: Any = FakeSite([1], [False], HEAD.offset, HEAD.offset + 9)
    assert worker_faults._waiting_behind(site, HEAD) == 0


def test_each_way_of_not_writing_a_log_comes_once_in_three_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    site: Any = FakeSite([0], [False])
    site.watch.answers = lambda: 0
    site.watch.wait = lambda *_, **__: None
    site.begins = site.ends = lambda: None
    site.stop = lambda _worker: None
    site.start = lambda **given: used.append(given["spawn"]) if given else None
    for site.repeat in (1, 2, 3):
        worker_faults.without_a_log(site, random.Random(0))
    assert set(used) == set(worker_faults.UNWRITABLE)
