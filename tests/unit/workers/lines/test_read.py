"""Bytes → lines → messages: any bytes give one outcome a line, and a reason quotes nothing of them."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompt import Turn
from tests.unit.workers.lines.worlds import KEY, lines_of
from tests.unit.workers.moderation.builders import LIMITS, make_event, make_turn
from workers.errors import UsageError
from workers.lines.read import LineSplitter, Message, Source, read_line
from workers.moderation.outcome import Rejection

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "id", "role", "context", "policy", "message", "event_id", "other"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def read(value: object, role: Any = "user") -> Message | Rejection:
    (line,) = lines_of(json.dumps(value).encode())
    return read_line(line, LIMITS, role)


def rejected(value: object) -> Rejection:
    found = read(value)
    assert isinstance(found, Rejection)
    return found


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_exactly_one_outcome_a_line_that_is_not_empty(content: bytes) -> None:
    lines = lines_of(content, most_bytes=40)
    expected = [n for n, raw in enumerate(content.split(b"\n"), 1) if raw.strip() or len(raw) > 40]
    assert [line.number for line in lines] == expected
    for line in lines:
        assert isinstance(read_line(line, LIMITS, "user"), Message | Rejection)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_lines_are_the_same_however_they_come_in_chunks(content: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter(KEY, 20)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    found = [line for start, end in pairwise(places) for line in splitter.feed(content[start:end])]
    assert [*found, *splitter.finish()] == lines_of(content, most_bytes=20)


def test_a_line_is_known_again_by_its_bytes_and_not_without_the_key() -> None:
    first, second, same = lines_of(b'{"text":"a"}\n{"text":"b"}\n{"text":"a"}')
    assert first.mac == same.mac != second.mac
    (other,) = LineSplitter(b"another key", 100).feed(b'{"text":"a"}\n')
    assert other.mac != first.mac


def test_a_long_line_is_not_held_and_is_known_again_all_the_same() -> None:
    (long,) = lines_of(b"x" * 1000, most_bytes=10)
    (whole,) = lines_of(b"x" * 1000, most_bytes=2000)
    assert (long.value, long.size, long.mac) == (None, 1000, whole.mac)
    (longer,) = lines_of(b"x" * 1001, most_bytes=10)
    assert longer.mac != long.mac


def test_a_line_over_the_limit_is_refused_with_both_sizes() -> None:
    (line,) = lines_of(b'{"text": "' + b"x" * 20_000 + b'"}')
    found = read_line(line, LIMITS, "user")
    assert found == Rejection("over_limit", "$", "expected at most 10000 bytes, found 20012")


def test_an_event_is_read_as_the_worker_reads_it() -> None:
    event = make_event(context=(make_turn("before", "assistant"),), policy="p-9")
    (line,) = lines_of(msgspec.json.encode(event))
    assert read_line(line, LIMITS, "user") == Message(
        turns=(Turn(role="assistant", text="before"), Turn(role="user", text="hello there")),
        id="e-1",
        tenant="acme",
        policy="p-9",
    )


def test_a_line_with_text_alone_has_the_role_of_the_command_line() -> None:
    assert read({"text": "hi"}, "assistant") == Message(turns=(Turn(role="assistant", text="hi"),))
    said = {
        "text": "hi",
        "id": "7",
        "role": "user",
        "policy": "p",
        "context": [{"role": "user", "text": "a"}],
    }
    assert read(said, "assistant") == Message(
        turns=(Turn(role="user", text="a"), Turn(role="user", text="hi")), id="7", policy="p"
    )


@pytest.mark.parametrize(
    ("value", "field", "sentence"),
    [
        ({}, "$.text", "the field is missing; expected a string"),
        ([], "$", "expected an event, or an object with `text`"),
        ({"text": 3}, "$.text", "expected a string"),
        ({"text": "a", "role": "bot"}, "$.role", "expected `user` or `assistant`"),
        ({"text": "a", "id": "a\nb"}, "$.id", "expected 1 to 256 characters"),
        ({"text": "a", "context": {}}, "$.context", "expected a list of turns"),
        ({"text": "a", "context": [{"role": "user"}]}, "$.context[0].text", "the field is missing"),
        ({"text": "a", "texts": "b"}, "$.texts", "no such field is known; expected only `text`, `id`"),
        ({"text": "a", "context": [{"role": "user", "text": "", "by": 1}]}, "$.context[0].by", "only `role`"),
        ({"text": "a", "secret words": 1}, "$", "expected no fields but those that are known"),
        ({"message": {}}, "$.message.id", "the field is missing"),
        ({"event_id": "e"}, "$.tenant", "the field is missing"),
        ({"text": "a" * 501}, "$.text", "expected at most 500 characters, found 501"),
        ({"text": "a", "context": [{"role": "user", "text": ""}] * 5}, "$.context", "at most 4 turns"),
    ],
)
def test_what_cannot_be_read_is_named_by_field_and_expectation(
    value: object, field: str, sentence: str
) -> None:
    found = rejected(value)
    assert found.field == field
    assert sentence in found.sentence
    assert "secret" not in found.sentence


@pytest.mark.parametrize("raw", [b"{", b'{"text": "\xff"}', b'{"text": "a"} x'])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    (line,) = lines_of(raw)
    found = read_line(line, LIMITS, "user")
    assert isinstance(found, Rejection)
    assert (found.reason, found.field) == ("undecodable", "$")


def test_what_is_nested_too_deeply_is_refused() -> None:
    (line,) = lines_of(b'{"context": ' + b"[" * 5000)
    assert isinstance(read_line(line, LIMITS, "user"), Rejection)


def test_a_pipe_gives_its_lines_as_they_come_and_then_none() -> None:
    read_end, write_end = os.pipe()
    source = Source(read_end, LineSplitter(KEY, 100), "standard input")
    os.write(write_end, b"one\ntwo\nthr")
    assert [line.value for line in source.more()] == [b"one", b"two"]
    os.write(write_end, b"ee")
    os.close(write_end)
    assert [line.value for line in source.more()] == [b"three"]
    assert source.more() == []
    os.close(read_end)


def test_a_stopped_source_gives_no_more_though_its_pipe_is_open() -> None:
    read_end, write_end = os.pipe()
    source = Source(read_end, LineSplitter(KEY, 100), "standard input")
    source.stop()
    assert source.more() == []
    os.close(read_end)
    os.close(write_end)


def test_a_source_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(UsageError, match=r"in\.jsonl: Is a directory"):
        Source(folder, LineSplitter(KEY, 100), "in.jsonl").more()
    os.close(folder)


def test_places_in_the_file_are_told() -> None:
    assert [(line.number, line.end) for line in lines_of(b"one\n\ntwo\n")] == [(1, 4), (3, 9)]
