"""The decoders. Each target takes bytes and raises only when its decoder breaks its promise."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import Any, Final

import msgspec

from guard.calibration import decode_calibration, encode_calibration
from guard.errors import CheckpointError
from guard.normalise import normalise
from guard.prompt import Turn
from guard.training.attacks.corpus import ATTACKS
from schemas.dead_letter import DeadLetter, dead_letter_headers
from schemas.decision import Decision
from schemas.event import Event
from schemas.generate import FOLDER
from schemas.identifiers import EXACT_MAX
from schemas.keys import record_key
from schemas.policy import Policy
from schemas.redrive import Headers, headers_to_put_back, mark_headers, read_mark
from schemas.release import Release
from schemas.review import Review
from schemas.verdict import Verdict
from tests.acceptance.malformed import Limits, malformed_records
from tests.fuzz.cached import entries, run_entry, run_tree, trees
from tests.unit.guard import calibrations
from workers.adapters.topics_io import Record as TopicRecord
from workers.commands.decision_rows import JsonRows, PlainRows, Row, dead_letter_row, decision_row
from workers.moderation.outcome import Rejection
from workers.moderation.publish import Topics, dead_letter, publication_of
from workers.moderation.read_event import EventLimits, decode_event
from workers.moderation.trace import read_trace
from workers.ports import Record
from workers.redrive import read_letter
from workers.stream.suspects import Mark, Suspects, read_note, write_note

LIMITS: Final = EventLimits(event_bytes=1_000_000, text_chars=32_768, context_turns=64, context_chars=131_072)
TOPICS: Final = Topics(decisions="d", dead_letters="l", source=b"s")
# What a rejection may say: our own words, fields of ours, numbers.
_SENTENCE: Final = re.compile(r"[ -~]{1,200}")
_FIELD: Final = re.compile(r"\$[a-z_.\[\]0-9]{0,60}")
# The errors that msgspec documents, and the two that it passes on.
_REFUSALS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# Kinds of characters that do more to a terminal than show.
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Of a commit, as `workers.ports.Journal` promises.
_NOTE_BYTES: Final = 3_000
_SEPARATOR, _END = b"\x1f", b"\x1e"


@dataclass(frozen=True)
class Target:
    """`run` says whether the input was accepted; it raises when the decoder is at fault."""

    name: str
    corpus: tuple[bytes, ...]
    run: Callable[[bytes], bool]


def pack_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Headers as bytes to be mutated; a value that is one zero byte is no value."""
    return b"".join(
        name.encode() + _SEPARATOR + (b"\x00" if value is None else value) + _END for name, value in headers
    )


def unpack_headers(data: bytes) -> Headers:
    """Any bytes as headers."""
    found: Headers = []
    for part in data.split(_END)[:-1] if _END in data else [data]:
        name, _, value = part.partition(_SEPARATOR)
        found.append((name.decode("utf-8", "replace"), None if value == b"\x00" else value))
    return found


def _event(data: bytes) -> bool:
    found = decode_event(data, LIMITS)
    if isinstance(found, Rejection):
        assert _SENTENCE.fullmatch(found.sentence), "a sentence that is not ours"
        assert _FIELD.fullmatch(found.field), "a field that is not ours"
        return False
    # What is read must be fit to be written: into a key, a decision and back.
    record_key(found.tenant, found.conversation_id)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Event) == found
    return True


def _trace(data: bytes) -> bool:
    trace = read_trace(unpack_headers(data))
    if trace.trace_id is not None:
        assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)
    return trace.trace_id is not None


def _attempts(data: bytes) -> bool:
    """A record with any headers becomes a dead letter that can be read."""
    record = Record("chat.events", 0, 1, None, data[:100], unpack_headers(data), 0)
    publication = publication_of(dead_letter(record, "invalid", "$", "s"), TOPICS)
    letter = read_letter(_topic_record(publication.headers, publication.value))
    assert letter is not None
    assert letter.attempts >= 1
    assert headers_to_put_back(publication.headers, letter)
    return letter.attempts > 1


def _dead_letter(data: bytes) -> bool:
    headers = unpack_headers(data)
    # Of any size: a topic may keep the producer's timestamps.
    timestamp_ms = int.from_bytes(data[-8:], "big", signed=True) >> (len(data) % 64)
    record = _topic_record(headers, data[:100], timestamp_ms)
    letter, row = read_letter(record), dead_letter_row(record)
    assert isinstance(row, Row) == (letter is not None)
    if letter is None:
        return False
    headers_to_put_back(headers, letter)
    _written(row)
    return True


def _mark(data: bytes) -> bool:
    headers = unpack_headers(data)
    mark = read_mark(headers)
    if mark is not None:
        assert read_letter(_topic_record(headers, None)) is None
        assert 0 <= mark.redriven_offset <= EXACT_MAX
    return mark is not None


def _decision(data: bytes) -> bool:
    row = decision_row(_topic_record([], data))
    _written(row)
    return isinstance(row, Row)


def _written(row: Row | str) -> None:
    """Rows can be written, and steer no terminal."""
    if isinstance(row, Row):
        JsonRows(StringIO()).write([row])
        out = StringIO()
        PlainRows(out).write([row])
        line = out.getvalue().removesuffix("\n")
        assert not {unicodedata.category(character) for character in line} & _STEERING


def _note(data: bytes) -> bool:
    """The note of a commit: whatever it is, what is kept of it can be written and read again."""
    note = data.decode("utf-8", "replace")
    marks = read_note(note)
    again = write_note(marks)
    assert len(again.encode()) <= _NOTE_BYTES
    assert read_note(again) == marks
    suspects = Suspects()
    suspects.recall(0, note)
    assert len(suspects.note(0).encode()) <= _NOTE_BYTES
    return bool(marks)


def _text(data: bytes) -> bool:
    """A message on its way to the guard; accepted means that it is read otherwise than it came."""
    text = data.decode("utf-8", "replace")[: LIMITS.text_chars]
    read = normalise(text)
    assert normalise(read) == read, "not settled at once"
    assert len(read) <= 6 * len(text), "longer than promised"
    return read != text


def _calibration(data: bytes) -> bool:
    """The calibration of a checkpoint: refused, or curves that keep order and bounds."""
    try:
        found = decode_calibration(data, "calibration.json")
    except CheckpointError:
        return False
    assert decode_calibration(encode_calibration(found), "again") == found
    for fitted in found.modes.values():
        for curve in fitted.curves.values():
            scores = [curve.score(number / 16) for number in range(17)]
            assert all(0 <= low <= high <= 1 for low, high in pairwise(scores))
            assert 0 <= curve.threshold(curve.smallest_rate) <= 1
    return True


def _calibrations() -> tuple[bytes, ...]:
    band = {"low": 0.2, "high": 0.8, "inside": 0.1, "fast_right": 0.9, "think_right": 1, "adaptive_right": 1}
    fast = calibrations.mode(curves={"all": calibrations.curve(uncertain_band=band)})
    found = (calibrations.whole(), calibrations.whole(modes={"fast": fast}))
    return tuple(json.dumps(one, separators=(",", ":")).encode() for one in found)


def _struct(struct: Any) -> Callable[[bytes], bool]:
    decoder = msgspec.json.Decoder(struct)

    def run(data: bytes) -> bool:
        try:
            found = decoder.decode(data)
        except _REFUSALS:
            return False
        msgspec.json.encode(found)
        return True

    return run


def _topic_record(headers: Headers, value: bytes | None, timestamp_ms: int = 0) -> TopicRecord:
    return TopicRecord("moderation.dead-letters", 0, 0, timestamp_ms, None, value, headers)


def _examples(noun: str) -> tuple[bytes, ...]:
    paths = sorted((FOLDER / "examples" / noun / "v1").glob("*.json"))
    found = [(path.name.startswith("good"), json.loads(path.read_bytes())) for path in paths]
    assert found
    # Without white space, so that mutations meet content; the good ones three times, the bad ones without
    # the frame that says what is wrong with them.
    good = [content for fine, content in found if fine]
    bad = [content["value"] for fine, content in found if not fine]
    return tuple(json.dumps(content, separators=(",", ":")).encode() for content in (*good * 3, *bad))


def _malformed() -> tuple[bytes, ...]:
    limits = Limits(event_bytes=3_000, text_chars=1_000, context_turns=8, context_chars=2_000)
    values = (one.sent.value for one in malformed_records(limits))
    return tuple(value for value in values if value is not None and len(value) < 5_000)


def _letters() -> tuple[bytes, ...]:
    letter = DeadLetter(topic="t", partition=1, offset=7, reason="invalid", sentence="s", attempts=3)
    timed = msgspec.structs.replace(letter, timestamp_ms=1000)
    back = headers_to_put_back([("traceparent", None), *dead_letter_headers(timed)], timed)
    again: Headers = [*back, *dead_letter_headers(timed)]
    kinds: list[Headers] = [[*dead_letter_headers(letter)], again, mark_headers(letter), back]
    return tuple(map(pack_headers, kinds))


def _notes() -> tuple[bytes, ...]:
    one = {1043: Mark(1, alone=True), 1045: Mark(), 1052: Mark(1)}
    many = {offset * 7: Mark(offset % 3) for offset in range(600)}
    return tuple(write_note(marks).encode() for marks in (one, many, {2**63 - 1: Mark()}))


def _attacked() -> tuple[bytes, ...]:
    turns = (Turn(role="user", text="how do i cheat at the casino, где казино"),)
    return tuple(c[-1].text.encode() for attack in ATTACKS for c in attack.conversations(turns, 0))


def _good(noun: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((FOLDER / "examples" / noun / "v1").glob("good*.json"))]


_TRACES: Final = tuple(
    pack_headers(headers)
    for headers in (
        [("traceparent", b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"), ("ce_id", b"1")],
        [("TraceParent", b"00-" + b"0" * 32 + b"-" + b"b2" * 8 + b"-01-more"), ("CE_ID", b"x" * 256)],
        [("rsafe-attempts", b"3"), ("rsafe-attempts", b"999999"), ("ce_id", None)],
    )
)

TARGETS: Final = (
    Target("event", (*_examples("event"), *_malformed()), _event),
    Target("trace", _TRACES, _trace),
    Target("attempts", (*_TRACES, *_letters()), _attempts),
    Target("dead letter", _letters(), _dead_letter),
    Target("redrive mark", _letters(), _mark),
    Target("decision", _examples("decision"), _decision),
    Target("cached verdict", entries(), run_entry),
    Target("cached value", trees(), run_tree),
    Target("note of a commit", _notes(), _note),
    Target("message text", _attacked(), _text),
    Target("calibration", _calibrations(), _calibration),
    *(
        Target(f"{noun} struct", _examples(noun), _struct(struct))
        for noun, struct in (
            ("decision", Decision),
            ("policy", Policy),
            ("review", Review),
            ("release", Release),
            ("verdict", Verdict),
            ("dead_letter", DeadLetter),
        )
    ),
)
