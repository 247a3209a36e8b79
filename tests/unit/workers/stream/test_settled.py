from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from workers.ports import Position, Publication, Refused
from workers.stream.settled import TellingOutcomes


class Inner:
    """Delivers and refuses what it is told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.delivered: list[Any] = []
        self.refused: list[Refused] = []

    def publish(self, ticket: Any, publication: Publication) -> None:
        self.sent.append(ticket)

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        delivered, refused, self.delivered, self.refused = self.delivered, self.refused, [], []
        return delivered, refused

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        return list(positions)

    async def flush(self, timeout_s: float) -> None: ...


def publication(told: list[bool] | None) -> Publication:
    return Publication("t", None, b"v", [], settled=None if told is None else told.append)


def test_a_publication_is_told_once_when_the_broker_has_it() -> None:
    inner, told = Inner(), list[bool]()
    outcomes = TellingOutcomes(inner, 10)
    outcomes.publish("one", publication(told))
    outcomes.publish("two", publication(None))
    assert told == []
    inner.delivered = ["two", "one"]
    assert outcomes.collect() == (["two", "one"], [])
    assert told == [True]
    inner.delivered = ["one"]
    outcomes.collect()
    assert told == [True]


def test_what_is_refused_is_told_and_what_replaces_it_is_on_its_own() -> None:
    inner, told = Inner(), list[bool]()
    outcomes = TellingOutcomes(inner, 10)
    outcomes.publish("one", publication(told))
    inner.refused = [Refused("one", None)]
    outcomes.collect()
    outcomes.publish("one", publication(None))
    inner.delivered = ["one"]
    outcomes.collect()
    assert told == [False]


def test_what_is_never_settled_does_not_pile_up() -> None:
    inner, told = Inner(), list[bool]()
    outcomes = TellingOutcomes(inner, 3)
    for number in range(5):
        outcomes.publish(number, publication(told))
    inner.delivered = list(range(5))
    outcomes.collect()
    assert told == [True] * 3
    assert inner.sent == list(range(5))
