from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Decision
from schemas.event import Event
from schemas.policy import Band, Policy
from tests.unit.schemas.strategies import instances, policies
from tests.unit.workers.moderation.builders import GUARD, make_asked, make_book, make_event, make_record
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.outcome import ChosenPolicy, Judged, Source, Took
from workers.moderation.recall_verdict import use_of
from workers.moderation.trace import NO_TRACE, Trace
from workers.moderation.write_remembered import in_common, write_remembered
from workers.ports import CachedVerdict


def without_calibration(policy: Policy) -> Policy:
    """Rates need one, and so does `adaptive` without a band of its own; that is another test's."""
    replace = msgspec.structs.replace
    categories = tuple(replace(one, max_false_positive_rate=None) for one in policy.categories)
    band = policy.uncertain_band or Band(low=0.2, high=0.8)
    return replace(policy, categories=categories, max_false_positive_rate=None, uncertain_band=band)


times = st.floats(0, 1e15)


@given(
    st.tuples(instances(Event), instances(Event)),
    policies(),
    instances(CachedVerdict),
    st.lists(times, min_size=3, max_size=3),
    st.integers(0, 253_402_214_400_000),
    st.sampled_from([NO_TRACE, Trace(trace_id="t" * 32)]),
)
def test_what_is_written_is_the_decision_that_would_be_made(
    events: tuple[Event, Event],
    policy: Any,
    cached: CachedVerdict,
    moments: list[float],
    timestamp_ms: int,
    trace: Trace,
) -> None:
    chosen = make_book(default=without_calibration(policy)).choose(make_event())
    assert isinstance(chosen, ChosenPolicy)
    first, event = (
        make_asked(one, chosen, record=make_record(timestamp_ms=timestamp_ms), trace=trace) for one in events
    )
    now_ms, total_ms, queue_ms = moments
    weighed = weigh(
        Judged(cached.verdict, GUARD, cached.verdict.rationale), chosen, chosen.policy.surfaces[0]
    )
    took = Took(queue_ms=queue_ms, total_ms=total_ms)
    written = write_remembered(event, cached, in_common(first, weighed), now_ms, took)
    made = make_decision(event, weighed, Source(use_of(cached, now_ms)), took)
    assert written == msgspec.json.encode(made)
    assert msgspec.json.decode(written, type=Decision).event_id == event.event.event_id
