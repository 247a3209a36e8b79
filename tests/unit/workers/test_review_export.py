"""Reviews and events become rows, or are counted; nothing is lost between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Origin, PolicyUsed, decision_id
from schemas.event import Event
from schemas.policy import judgement_hash
from schemas.review import Review
from tests.unit.workers.moderation.builders import make_event, make_policy, make_turn
from workers.adapters.origins import Gone
from workers.adapters.topics_io import Record
from workers.policies import PolicySet
from workers.review_export import Account, Reviews, Row, RowForm, decode_review, join

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
POLICY = make_policy()
POLICIES = PolicySet(by_id={"p-1": POLICY}, by_tenant={}, default=POLICY)
FORM = RowForm(POLICIES, "LicenseRef-test", 0.1, b"key")


def make_review(offset: int = 0, event: Event | None = None, **changes: Any) -> Review:
    origin = changes.pop("origin", Origin(topic="chat.events", partition=2, offset=offset))
    fields: dict[str, Any] = {
        "review_id": f"r-{offset}",
        "decision_id": decision_id(origin=origin, event_id=(event or make_event()).event_id),
        "origin": origin,
        "reviewer": "someone",
        "label": "unsafe",
        "reviewed_at": NOON,
    }
    return Review(**(fields | changes))


def record(value: Any, offset: int = 0, *, topic: str = "moderation.reviews", partition: int = 2) -> Record:
    content = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
    return Record(topic, partition, offset, 1_000 + offset, b"k", content, [])


def event_record(event: Event | bytes | None, offset: int = 0) -> Record:
    return record(event, offset, topic="chat.events")


def exported(
    reviews: list[Review], found: Sequence[Record | Gone], form: RowForm = FORM
) -> tuple[list[Row], Account]:
    account, collected = Account(), Reviews()
    for number, review in enumerate(reviews):
        collected.add(record(review, number), account)
    return list(join(found, collected.by_place(), form, account)), account


def test_a_row_has_the_conversation_and_the_reviewers_word() -> None:
    event = make_event(
        text="second", context=(make_turn("first"), make_turn("answer", "assistant")), language="de"
    )
    review = make_review(7, event, categories=("C1",), note="never exported")
    ((row,), account) = exported([review], [event_record(event, 7)])
    assert [(turn.role, turn.content) for turn in row.messages] == [
        ("user", "first"),
        ("assistant", "answer"),
        ("user", "second"),
    ]
    assert (row.kind, row.label, row.categories) == ("conversation", "unsafe", ("C1",))
    assert (row.source, row.licence, row.meta.lang) == ("reviews", "LicenseRef-test", "de")
    assert (row.meta.review_id, row.meta.decision_id) == ("r-7", review.decision_id)
    assert row.meta.reviewed_at == NOON
    assert account.report()["rows"] == {"unsafe": 1}
    text = msgspec.json.encode(row).decode()
    for hidden in ("acme", "c-1", "a-1", "someone", "never exported", "e-1"):
        assert hidden not in text


@pytest.mark.parametrize(
    ("context", "role", "kind"),
    [
        ((), "user", "prompt"),
        ((make_turn("q"),), "assistant", "response"),
        ((make_turn("q"),), "user", "conversation"),
        ((), "assistant", "conversation"),
    ],
)
def test_the_kind_follows_the_roles(context: Any, role: Any, kind: str) -> None:
    event = make_event(context=context, role=role)
    ((row,), _) = exported([make_review(0, event)], [event_record(event)])
    assert row.kind == kind


def test_the_latest_review_of_a_decision_counts_whenever_it_was_published() -> None:
    first = make_review(0, label="safe", review_id="first")
    second = make_review(0, review_id="second", reviewed_at=NOON + timedelta(hours=1))
    for order in ([first, second], [second, first]):
        ((row,), account) = exported(order, [event_record(make_event())])
        assert (row.meta.review_id, row.label, account.superseded) == ("second", "unsafe", 1)


def test_of_reviews_of_one_moment_the_one_behind_counts() -> None:
    reviews = [make_review(0, review_id="first"), make_review(0, review_id="second")]
    ((row,), account) = exported(reviews, [event_record(make_event())])
    assert (row.meta.review_id, account.superseded) == ("second", 1)


def test_an_event_that_is_gone_is_counted_by_reason() -> None:
    reviews = [make_review(n) for n in range(3)]
    gone: list[Record | Gone] = [
        Gone("chat.events", 2, 0, "expired"),
        Gone("chat.events", 2, 1, "absent"),
        Gone("chat.events", 2, 2, "expired"),
    ]
    rows, account = exported(reviews, gone)
    assert rows == []
    assert account.gone == {"expired": 2, "absent": 1}


def test_another_event_at_the_same_place_is_not_given_the_label() -> None:
    """A topic that was deleted and made anew has other events under the old coordinates."""
    rows, account = exported([make_review(0)], [event_record(make_event(event_id="another"))])
    assert rows == []
    assert account.not_events == {"other_event": 1}


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty"), (b"{", "undecodable"), (b"\xff", "undecodable"), (b"{}", "invalid")],
)
def test_what_is_no_event_is_counted_by_reason(value: bytes | None, reason: str) -> None:
    rows, account = exported([make_review(0)], [event_record(value)])
    assert rows == []
    assert account.not_events == {reason: 1}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"no json", "undecodable"),
        (b"\xff", "undecodable"),
        (b'{"x":' * 100_000, "undecodable"),
        (b"{}", "invalid"),
        (msgspec.json.encode({**msgspec.to_builtins(make_review()), "label": "bad"}), "invalid"),
    ],
)
def test_what_is_no_review_is_counted_by_reason_and_named(value: bytes | None, reason: str) -> None:
    account, reviews = Account(), Reviews()
    reviews.add(record(value, 9, partition=4), account)
    assert (account.records, account.not_reviews, len(reviews)) == (1, {reason: 1}, 0)
    assert account.unreadable.first == [(4, 9)]


@given(st.binary(max_size=100))
def test_reading_a_review_is_total(value: bytes) -> None:
    assert decode_review(value) in ("empty", "undecodable", "invalid")


def test_an_event_that_is_over_todays_limits_is_exported_all_the_same() -> None:
    event = make_event(text="x" * 2_000_000)
    rows, _ = exported([make_review(0, event)], [event_record(event)])
    assert len(rows[0].messages[0].content) == 2_000_000


def test_the_reviews_own_policy_is_named_else_that_of_the_settings() -> None:
    told = PolicyUsed(id="then", version="9", policy_hash="a" * 64, judgement_hash="b" * 64)
    events = [event_record(make_event(), n) for n in range(2)]
    rows, account = exported([make_review(0, policy=told), make_review(1)], events)
    first, second = (row.meta for row in rows)
    assert (first.policy, first.policy_version, first.policy_from) == ("then", "9", "review")
    assert first.judgement_hash == "b" * 64
    assert (second.policy, second.policy_from) == ("p-1", "settings")
    assert second.judgement_hash == judgement_hash(POLICY)
    assert account.without_policy == 0


def test_a_row_without_a_policy_is_written_and_counted() -> None:
    event = make_event(policy="unknown")
    rows, account = exported([make_review(0, event)], [event_record(event)])
    assert (rows[0].meta.policy, account.without_policy) == (None, 1)


def test_two_decisions_of_one_event_have_a_row_each() -> None:
    """Only decisions of the live lane and the first epoch are known by their id."""
    other = make_review(0, decision_id="f" * 64)
    rows, account = exported([make_review(0), other], [event_record(make_event())])
    assert len(rows) == 1
    assert account.not_events == {"other_event": 1}


@given(
    rooms=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_a_conversation_never_straddles_the_splits(rooms: list[int], share: float) -> None:
    form = RowForm(POLICIES, "x", share, b"key")
    splits: dict[str, set[str]] = {}
    for number, room in enumerate(rooms):
        event = make_event(event_id=f"e-{number}", conversation_id=f"c-{room}")
        row = form.row(make_review(number, event), event)
        splits.setdefault(row.meta.group, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) == len(set(rooms))
    if share in (0.0, 1.0):
        assert set().union(*splits.values()) == {"dev" if share else "train"}


def test_groups_cannot_be_tried_out_without_the_key_and_splits_outlive_it() -> None:
    events = [make_event(conversation_id=f"c-{n}") for n in range(50)]
    other = RowForm(POLICIES, "LicenseRef-test", 0.1, b"another key")
    ours, theirs = ([form.row(make_review(0), event) for event in events] for form in (FORM, other))
    assert not {row.meta.group for row in ours} & {row.meta.group for row in theirs}
    assert [row.split for row in ours] == [row.split for row in theirs]


def test_about_the_wanted_share_of_conversations_goes_to_dev() -> None:
    events = [make_event(conversation_id=f"c-{n}") for n in range(2000)]
    splits = Counter(FORM.row(make_review(0), event).split for event in events)
    assert 150 < splits["dev"] < 250


@given(
    st.lists(
        st.sampled_from(["row", "later", "expired", "absent", "other", "no event", "no review"]), max_size=25
    )
)
def test_every_record_is_written_or_counted_once(kinds: list[str]) -> None:
    account, reviews = Account(), Reviews()
    found: list[Record | Gone] = []
    for number, kind in enumerate(kinds):
        event, review = make_event(event_id=f"e-{number}"), None
        review = make_review(number, event)
        if kind == "no review":
            reviews.add(record(b"?", number), account)
            continue
        reviews.add(record(review, number), account)
        match kind:
            case "later":
                reviews.add(record(review, number), account)
                found.append(event_record(event, number))
            case "expired" | "absent":
                found.append(Gone("chat.events", 2, number, kind))
            case "other":
                found.append(event_record(make_event(event_id="other"), number))
            case "no event":
                found.append(event_record(b"?", number))
            case _:
                found.append(event_record(event, number))
    rows = list(join(found, reviews.by_place(), FORM, account))
    assert len({row.id for row in rows}) == len(rows) == account.rows.total()
    others = account.gone.total() + account.not_events.total() + account.not_reviews.total()
    assert account.rows.total() + account.superseded + others == account.records
    assert account.rows.total() == kinds.count("row") + kinds.count("later")
