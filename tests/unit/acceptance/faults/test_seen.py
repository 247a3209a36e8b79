from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import DeadLetter, dead_letter_headers
from tests.acceptance.faults.seen import Arrival, Seen, longest_pause_s
from tests.acceptance.records import Place, Record
from tests.acceptance.scenario import Topics

TOPICS = Topics("events", "decisions", "dead")


def event(offset: int, partition: int = 0, published_ms: int = 0) -> Record:
    return Record(Place("events", partition, offset), b"{}", timestamp_ms=published_ms)


def decision(offset: int, at: int, topic: str = "decisions") -> Record:
    body = {"origin": {"topic": "events", "partition": 0, "offset": offset}}
    return Record(Place(topic, 0, at), json.dumps(body).encode())


def letter(offset: int, at: int) -> Record:
    headers = dead_letter_headers(
        DeadLetter(topic="events", partition=0, offset=offset, reason="invalid", sentence="no event")
    )
    return Record(Place("dead", 0, at), b"", headers=tuple(headers))


def seen_of(*records: Record) -> Seen:
    seen = Seen(TOPICS)
    for number, record in enumerate(records):
        seen.add(record, 1_000.0 * number)
    return seen


def offsets(records: list[Record]) -> list[int]:
    return [record.place.offset for record in records]


def test_a_slice_has_its_events_and_their_answers_and_the_next_one_the_others() -> None:
    seen = seen_of(event(0), event(1), event(2), decision(0, 0), letter(1, 0), decision(2, 1))
    first = seen.take({0: 2})
    assert (offsets(first.events), offsets(first.decisions), offsets(first.dead_letters)) == (
        [0, 1],
        [0],
        [0],
    )
    assert (first.fresh, first.duplicates, len(first.arrivals)) == (2, 0, 3)
    second = seen.take({0: 3})
    assert (offsets(second.events), offsets(second.decisions), second.fresh) == ([2], [1], 1)
    assert seen.take({0: 3}).events == []


def test_a_late_duplicate_brings_its_event_back_with_all_its_answers() -> None:
    seen = seen_of(event(0), event(1), decision(0, 0), decision(1, 1))
    seen.take({0: 2})
    seen.add(event(2), 0)
    seen.add(decision(0, 2), 0)
    again = seen.take({0: 3})
    assert (offsets(again.events), offsets(again.decisions)) == ([0, 2], [0, 2])
    assert (again.fresh, again.duplicates) == (1, 1)


def test_a_decision_beside_a_dead_letter_is_a_duplicate_too() -> None:
    assert seen_of(event(0), decision(0, 0), letter(0, 0)).take({0: 1}).duplicates == 1


def test_what_cannot_be_read_is_handed_to_the_checker_once() -> None:
    seen = seen_of(event(0), Record(Place("decisions", 0, 0), b"no decision"))
    assert offsets(seen.take({0: 1}).decisions) == [0]
    assert seen.take({0: 1}).decisions == []


def test_an_event_counts_as_open_until_it_is_read_and_answered() -> None:
    seen = seen_of(event(0), decision(0, 0), decision(1, 1), event(2), decision(2, 2))
    assert seen.first_open(0, 0, 3) == 1
    seen.add(event(1), 0)
    assert seen.first_open(0, 1, 3) == 3
    assert seen.first_open(0, 0, 4) == 3
    assert seen.first_open(1, 0, 1) == 0
    assert seen.answered == 3


def test_what_is_answered_behind_an_event_is_of_its_partition() -> None:
    elsewhere = Record(Place("decisions", 0, 3), b'{"origin":{"topic":"events","partition":1,"offset":9}}')
    seen = seen_of(event(1), decision(0, 0), decision(3, 1), decision(3, 2), letter(4, 0), elsewhere)
    assert seen.answered_behind(Place("events", 0, 1)) == 2
    assert not seen.is_answered(Place("events", 0, 1))
    assert seen.is_answered(Place("events", 0, 4))


def test_the_time_to_resume_ends_with_an_event_published_after_the_fault() -> None:
    seen = seen_of(event(0, published_ms=900), event(1, published_ms=1_100), decision(0, 0))
    assert seen.first_answer_after(1_000) is None
    seen.add(decision(1, 1), 3_500.0)
    assert seen.first_answer_after(1_000) == 2.5


def test_a_topic_made_anew_is_the_same_topic_with_later_places() -> None:
    seen = seen_of(event(0), event(1), decision(0, 7), decision(1, 0, "decisions#1"))
    assert [record.place.topic for record in seen.everything().decisions] == ["decisions", "decisions#1"]
    assert seen.answered == 2


def test_the_longest_pause_is_between_neighbours_in_time() -> None:
    arrivals = [Arrival(at, Place("events", 0, 0), True) for at in (4_000.0, 1_000.0, 1_500.0)]
    assert longest_pause_s(arrivals) == 2.5
    assert longest_pause_s([]) == 0.0


@given(st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=80))
def test_no_event_and_no_answer_falls_between_two_slices(steps: list[tuple[int, bool]]) -> None:
    seen, end, told = seen_of(*(event(offset) for offset in range(20))), 0, []
    for at, (offset, cut) in enumerate(steps):
        seen.add(decision(offset, at), 0.0)
        if cut:
            end = min(20, end + offset % 7)
            told.append(seen.take({0: end}))
    told.append(seen.take({0: 20}))
    assert sum(one.fresh for one in told) == 20
    assert sum(one.duplicates for one in told) == len(steps) - len({offset for offset, _ in steps})
    assert sum(len(one.arrivals) for one in told) == len(steps)
    assert {record.place.offset for one in told for record in one.decisions} == set(range(len(steps)))
