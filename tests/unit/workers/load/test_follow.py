"""Outcomes of the run, each once, whatever else travels on the topics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Event as Flag
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import DeadLetter, dead_letter_headers
from schemas.decision import CacheUse, Decision
from schemas.redrive import mark_headers
from tests.unit.workers.load.worlds import decision
from workers.adapters.load_topics import Arrival
from workers.load import follow
from workers.load.follow import DEAD_LETTER, HIT, MISS, NOT_APPLICABLE, UNJUDGED, Follower, Outcomes

LETTER = DeadLetter(topic="t", partition=0, offset=1, reason="poisoned", sentence="s")


def _follow(*batches: Sequence[Arrival], sent: int = 100) -> Outcomes:
    stop, left = Flag(), list(batches)

    class Reader:
        def take(self, wait_s: float) -> Sequence[Arrival]:
            if not left:
                stop.set()
                return ()
            return left.pop(0)

    ticks = iter(range(1000))
    outcomes = Outcomes()
    Follower(Reader(), outcomes, "load-r1-", sent=lambda: sent, clock=lambda: float(next(ticks))).until(stop)
    return outcomes


def _letter(event_id: str, headers: Any = None) -> Arrival:
    return Arrival(
        msgspec.json.encode({"event_id": event_id}), 5.0, headers or [*dead_letter_headers(LETTER)]
    )


def test_what_is_read_of_a_decision_is_in_its_schema() -> None:
    for part, whole in ((follow._Decision, Decision), (follow._Cache, CacheUse)):
        assert set(part.__struct_fields__) <= set(whole.__struct_fields__)


def test_each_outcome_is_a_row_of_its_kind_and_its_batchs_time() -> None:
    outcomes = _follow(
        [decision("load-r1-0", hit=True, stamp_ms=7.0), decision("load-r1-1")],
        [],
        [
            decision("load-r1-2", status="unjudged", reason="late"),
            decision("load-r1-3", status="not_applicable", reason="role_not_judged"),
            _letter("load-r1-4"),
            decision("load-r1-5", status="unjudged", reason="late"),
        ],
    )
    assert list(outcomes.kinds) == [HIT, MISS, UNJUDGED, NOT_APPLICABLE, DEAD_LETTER, UNJUDGED]
    assert outcomes.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert outcomes.seen_s.tolist() == [0, 0, 2, 2, 2, 2]
    assert outcomes.stamps_ms[0] == 7.0
    assert math.isnan(outcomes.stamps_ms[1])
    assert outcomes.received_ms[0] == 1_767_571_200_000
    assert math.isnan(outcomes.received_ms[4])
    assert [outcomes.words[index] for index in outcomes.reasons if index >= 0] == ["late", "poisoned", "late"]
    assert (len(outcomes), outcomes.hits, outcomes.newest_s) == (6, 1, 2.0)


@given(st.lists(st.integers(0, 30)))
def test_the_first_outcome_of_an_event_counts_and_others_are_duplicates(numbers: list[int]) -> None:
    outcomes = _follow([decision(f"load-r1-{number}") for number in numbers])
    assert outcomes.numbers.tolist() == list(dict.fromkeys(numbers))
    assert outcomes.duplicates == len(numbers) - len(set(numbers))


@pytest.mark.parametrize(
    "stranger",
    [
        decision("load-r2-0"),
        decision("load-r10-0"),
        decision("other"),
        decision("load-r1-"),
        decision("load-r1-1x"),
        decision("load-r1--1"),
        decision("load-r1-101"),
        decision("load-r1-0", lane="shadow"),
        decision("load-r1-0", epoch=1),
        Arrival(b"not json", 1.0, None),
        Arrival(b"\xff", 1.0, None),
        Arrival(None, 1.0, None),
        _letter("load-r2-0"),
        _letter("load-r1-0", [("rsafe-reason", b"nonsense")]),
        _letter("load-r1-0", [("other", b"header")]),
        Arrival(None, 1.0, [*mark_headers(LETTER)]),
        Arrival(None, 1.0, [*dead_letter_headers(LETTER)]),
    ],
)
def test_what_is_not_of_this_run_is_passed_over(stranger: Arrival) -> None:
    assert len(_follow([stranger, decision("load-r1-1")])) == 1
