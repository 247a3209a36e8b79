from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.event import Event
from schemas.json_schema import NOUNS, wire_schema
from tests.unit.workers.moderation.builders import LIMITS, make_event, make_turn
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event

SCHEMA = Draft202012Validator(wire_schema(next(noun for noun in NOUNS if noun.name == "event")))
GOOD = json.loads(msgspec.json.encode(make_event()))


def rejection_of(value: bytes | None, limits: EventLimits = LIMITS) -> Rejection:
    rejection = decode_event(value, limits)
    assert isinstance(rejection, Rejection)
    return rejection


def changed(path: str, value: Any) -> bytes:
    """The good event with one field replaced; `...` removes it."""
    tree: dict[str, Any] = json.loads(json.dumps(GOOD))
    *parents, name = path.split(".")
    place = tree
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(tree).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(GOOD)), inner),
    max_leaves=20,
)


@given(st.binary() | st.none())
@example(b"[" * 200_000)
@example(b'{"a":' * 200_000)
@example(b'{"message":' * 200_000)
@example(b'{"deadline_ms":' + b"9" * 5000)
@example(b'{"event_id":"\\ud800"}')
@example(b'{"event_id":"\xed\xa0\x80"}')
@example(b'{"event_id":NaN}')
@example(b"\xef\xbb\xbf{}")
@example(b'{"x":"' + b"x" * 1_000_000 + b'"}')
def test_bytes_never_raise(value: bytes | None) -> None:
    result = decode_event(
        value, EventLimits(event_bytes=10**7, text_chars=1, context_turns=0, context_chars=0)
    )
    assert isinstance(result, Event | Rejection)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, json_values)))
def test_json_never_raises(fields: dict[str, Any]) -> None:
    result = decode_event(json.dumps(GOOD | fields).encode(), LIMITS)
    assert isinstance(result, Event | Rejection)


@given(
    st.text(min_size=8).filter(lambda text: text.strip()),
    st.sampled_from(
        ["message.role", "message.sent_at", "event_id", "deadline_ms", "context", "message.language"]
    ),
)
@example("evil` - at `$.message.text`", "message.role")
def test_a_rejection_quotes_nothing_of_the_record(text: str, path: str) -> None:
    plain, quoting = (
        decode_event(changed(path, {"x": 1}), LIMITS),
        decode_event(changed(path, {text: text}), LIMITS),
    )
    assert plain == quoting
    result = decode_event(changed(path, text), LIMITS)
    if isinstance(result, Rejection):
        assert text not in result.sentence
        assert text not in result.field
    assert not isinstance(result, Rejection) or "evil" not in repr(result)


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (None, "empty", "$"),
        (b"", "empty", "$"),
        (b"{", "undecodable", "$"),
        (b"\xff", "undecodable", "$"),
        (json.dumps(GOOD).replace("hello", "\\ud800").encode(), "undecodable", "$"),
        (json.dumps(GOOD).encode().replace(b"hello", b"\xff"), "undecodable", "$"),
        (b"[]", "invalid", "$"),
        (b"null", "invalid", "$"),
        (changed("tenant", ...), "invalid", "$.tenant"),
        (changed("message.text", ...), "invalid", "$.message.text"),
        (changed("message.role", "system"), "invalid", "$.message.role"),
        (changed("message.sent_at", "2026-01-01T00:00:00"), "invalid", "$.message.sent_at"),
        (changed("event_id", "a\nb"), "invalid", "$.event_id"),
        (changed("event_id", "x" * 257), "invalid", "$.event_id"),
        (changed("deadline_ms", 0), "invalid", "$.deadline_ms"),
        (
            changed("context", [{"role": "user", "text": "x"}, {"role": "user", "text": 3}]),
            "invalid",
            "$.context[1].text",
        ),
        (changed("context", [{"role": "user"}]), "invalid", "$.context[0].text"),
        (changed("message.text", "x" * 501), "over_limit", "$.message.text"),
        (changed("context", [{"role": "user", "text": "x"}] * 5), "over_limit", "$.context"),
        (changed("context", [{"role": "user", "text": "x" * 300}] * 3), "over_limit", "$.context"),
        (changed("context", [{"role": "user", "text": "x" * 501}]), "over_limit", "$.context[0].text"),
        (b" " * 10_001, "over_limit", "$"),
    ],
)
def test_a_rejection_names_reason_and_field(value: bytes | None, reason: str, field: str) -> None:
    rejection = rejection_of(value)
    assert (rejection.reason, rejection.field) == (reason, field)
    assert "expected" in rejection.sentence


@given(
    st.sampled_from(["event_id", "tenant", "conversation_id", "policy", "message.id", "message.author"]),
    st.text(max_size=3)
    | st.text(
        alphabet=st.characters(max_codepoint=0xA0) | st.sampled_from("\u200b\u2028\ufeff"), max_size=258
    ),
)
@example("message.author", "a\x7f")
@example("tenant", "a\n")
def test_an_identifier_is_taken_exactly_when_the_json_schema_takes_it(path: str, text: str) -> None:
    value = changed(path, text)
    found = decode_event(value, LIMITS)
    valid = SCHEMA.is_valid(json.loads(value))
    assert isinstance(found, Event) == valid
    assert valid or (isinstance(found, Rejection) and found.field == f"$.{path}")


def test_every_field_of_an_event_has_words_for_what_is_expected() -> None:
    for path in ("event_id", "tenant", "conversation_id", "policy", "deadline_ms", "context", "message"):
        assert rejection_of(changed(path, [[]])).field in (f"$.{path}", f"$.{path}[0]")
    for name in ("id", "role", "author", "text", "sent_at", "revision", "language"):
        assert rejection_of(changed(f"message.{name}", [])).field == f"$.message.{name}"


def test_limits_are_inclusive_and_unknown_fields_are_ignored() -> None:
    event = make_event(text="x" * 500, context=tuple(make_turn("y" * 200) for _ in range(4)))
    assert decode_event(msgspec.json.encode(event), LIMITS) == event
    assert isinstance(decode_event(changed("something_new", 1), LIMITS), Event)
