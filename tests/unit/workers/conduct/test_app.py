"""The end of the app, and what goes where: of an app whose Faust does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.conduct import app as module
from workers.conduct.app import ConductApp
from workers.conduct.engine import Step
from workers.conduct.entries import Correction, Erase, Subject, decode
from workers.conduct.intake import Unreadable, entries_of
from workers.conduct.metrics import ConductMetrics
from workers.errors import StreamStopped
from workers.settings import Settings


class Faust:
    """As the app object of Faust."""

    crashed, crash_reason = False, None

    def __init__(self) -> None:
        self.stops, self.count = 0, 3
        self.consumer = SimpleNamespace(topic_partitions=lambda _: self.count)

    async def stop(self) -> None:
        self.stops += 1


class Made(ConductApp):
    """An app that has joined; `commits` is what its commits do."""

    def __init__(self) -> None:
        self.faust = self._app = Faust()
        self._settings, self._metrics = Settings(), ConductMetrics()
        self.failed, self.failure, self._committer = asyncio.Event(), None, None
        self._joined, self._stopping, self._in_hand = True, False, [asyncio.Lock()]
        self._entries, self._letters, self._escalations = "entries", "letters", "escalations"
        self.commits = 0
        self.broken: Exception | None = None
        self.sent: list[tuple[Any, Any, int | None]] = []

    async def _commit(self) -> None:
        if self.broken is not None:
            raise self.broken
        self.commits += 1

    async def _send(self, records: Sequence[Any], partition: int | None = None) -> list[Any]:
        self.sent += [(topic, value, partition) for topic, _, value, _ in records]
        return []


async def test_at_the_end_what_is_done_is_committed() -> None:
    made = Made()
    await made.stop()
    assert (made.commits, made.faust.stops, made.failure) == (1, 1, None)


async def test_after_a_failure_or_before_the_group_was_joined_nothing_is_committed() -> None:
    for change in ({"failure": ConnectionError()}, {"_joined": False}):
        made = Made()
        vars(made).update(change)
        await made.stop()
        assert (made.commits, made.faust.stops) == (0, 1)


async def test_a_commit_that_fails_at_the_end_is_told_and_faust_is_stopped_nevertheless() -> None:
    made = Made()
    made.broken = ConnectionError()
    await made.stop()
    assert made.failure is made.broken and made.failed.is_set() and made.faust.stops == 1


async def test_a_record_in_hand_that_does_not_end_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.01)
    made = Made()
    async with made._in_hand[0]:
        await made.stop()
    assert isinstance(made.failure, TimeoutError)
    assert (made.commits, made.faust.stops) == (0, 1)


async def test_what_a_decision_says_of_another_is_published_though_its_policy_is_not_loaded() -> None:
    made, world = Made(), World([policy(rule(), id="another")])
    read = entries_of(decision(2, 2, epoch=1, supersedes=f"{1:064x}"), world.book)
    assert isinstance(read, Unreadable)
    message = SimpleNamespace(
        topic="decisions", partition=0, offset=1, timestamp=1.0, key=b"k", value=b"v", headers=[]
    )
    await made._take("decisions", SimpleNamespace(message=message), read)
    (first, value, _), (second, letter, _) = made.sent
    assert (first, second, letter) == ("entries", "letters", b"v")
    corrected = decode(value)
    assert isinstance(corrected, Correction) and corrected.decision == f"{1:064x}"


async def test_an_erasure_goes_to_every_partition_and_all_else_by_its_key() -> None:
    made = Made()
    subject = Subject("author", "acme", "a")
    erase = Erase(subject=subject, author="0" * 24)
    other = Correction(subject=subject, decision="d", void=True, version=1, at_ms=1)
    await made.step(Step("forgotten", None, (erase, other)))
    assert sorted((decode(value), at) for _, value, at in made.sent if at is not None) == [
        (erase, 0),
        (erase, 1),
        (erase, 2),
    ]
    assert [decode(value) for _, value, at in made.sent if at is None] == [other]
    made.faust.count = None  # type: ignore[assignment]
    with pytest.raises(StreamStopped):
        await made.step(Step("forgotten", None, (erase,)))
