"""Entries of the verdict cache, on their way to decisions. Whoever may write to Redis writes anything."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final, get_args

import msgspec
from jsonschema import Draft202012Validator

from schemas.decision import Decision
from schemas.generate import FOLDER
from schemas.verdict import Verdict, WindowVerdict
from tests.unit.workers.moderation.builders import GUARD, make_asked, make_event
from workers.adapters.verdict_codec import FORMAT, decode_verdict, encode_verdict
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.outcome import Decided, Source, Took
from workers.moderation.publish import Topics, publication_of
from workers.moderation.recall_verdict import judged_before, use_of
from workers.ports import CachedVerdict, RationaleForm

_TOPICS: Final = Topics(decisions="d", dead_letters="l", source=b"s")
_FORMS: Final[tuple[RationaleForm, ...]] = get_args(RationaleForm)
_NUMBERS: Final = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.0000000000000002, 1e308, -1.0)
# A question, and the guard of today, for decisions from remembered verdicts.
_ASKED: Final = make_asked(make_event(text="hello there, Ärger 🙂"))
_ASKED_GUARD: Final = GUARD
_NOW_MS: Final = 1_800_000_060_000.0
# What `rsafe topics create` lets the topic take.
_DECISION_BYTES: Final = 1_048_576
_DECISION_SCHEMA: Final = Draft202012Validator(
    json.loads((FOLDER / "wire" / "decision.v1.schema.json").read_text(encoding="utf-8"))
)


def run_entry(data: bytes) -> bool:
    """An entry of the cache: a miss, or fit to become a decision, whatever the settings."""
    found = decode_verdict(data)
    if found is None:
        return False
    assert decode_verdict(encode_verdict(found)) == found
    line: bytes | None = None
    for form in _FORMS:
        weighed = weigh(judged_before(_ASKED, found, _ASKED_GUARD, form), _ASKED.chosen, "user")
        decision = make_decision(_ASKED, weighed, Source(use_of(found, _NOW_MS)), Took())
        line = publication_of(Decided(decision, _ASKED), _TOPICS).value
        assert line is not None
        assert len(line) <= _DECISION_BYTES
        assert msgspec.json.decode(line, type=Decision) == decision
    assert line is not None  # once, since it takes a millisecond: the forms differ in one text
    assert _DECISION_SCHEMA.is_valid(json.loads(line))
    return True


def run_tree(data: bytes) -> bool:
    """`run_entry` from a tree: whoever may write to Redis can write any value in MessagePack."""
    try:
        packed = msgspec.msgpack.encode(json.loads(data))
    except (ValueError, OverflowError, RecursionError):
        return False
    return run_entry(FORMAT + packed)


def entries() -> tuple[bytes, ...]:
    """Entries as we write them, and as we never would."""
    verdicts = [msgspec.json.decode(content, type=Verdict) for content in _good()]
    window = WindowVerdict(label="unsafe", score=0.5, codes=("C1", "Zz-9"))
    # More verdicts than windows, which no writer of ours writes.
    verdicts.append(Verdict(label="unsafe", score=0.5, windows=1, by_window=(window, window)))
    verdicts.append(Verdict(label="unsafe", score=0.5, codes=("C1", "Zz-9"), category_scores={"C2": 0.5}))
    verdicts.append(Verdict(label="safe", score=None, rationale="hello there \0\u202e " * 8))
    written = [
        encode_verdict(CachedVerdict(verdict, "0" * 64, 1_800_000_000_000, form, "m", "d", True, "1"))
        for verdict in verdicts
        for form in _FORMS
    ]
    # What a writer of ours never writes: numbers that are none, or beyond a probability; half a character.
    half = struct.pack(">d", 0.5)
    odd = [written[-4].replace(half, struct.pack(">d", number)) for number in _NUMBERS]
    odd += [written[0].replace(b"\xa1m", b"\xa3" + text) for text in (b"\xed\xa0\x80", b"\xff\xfe\xfd")]
    return (*written, *odd)


def trees() -> tuple[bytes, ...]:
    """The entries as JSON, in Python's dialect, which has NaN and Infinity."""
    found = [tree for entry in entries() if (tree := _tree_of(entry)) is not None]
    return tuple(json.dumps(tree).encode() for tree in found)


def _tree_of(entry: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(entry[1:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _good() -> list[bytes]:
    folder = FOLDER / "examples" / "verdict" / "v1"
    return [path.read_bytes() for path in sorted(folder.glob("good*.json"))]
