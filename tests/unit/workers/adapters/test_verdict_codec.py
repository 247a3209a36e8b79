from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.verdict import Verdict, WindowVerdict
from workers.adapters.verdict_codec import (
    FORMAT,
    LARGEST_BYTES,
    VerdictDecoder,
    decode_verdict,
    encode_verdict,
)
from workers.ports import CachedVerdict


@given(st.sampled_from(["safe", "unsafe"]), st.none() | st.floats(0, 1), st.text(), st.booleans())
def test_what_was_encoded_is_decoded(label: Any, score: float | None, rationale: str, verified: bool) -> None:
    verdict = Verdict(label=label, score=score, rationale=rationale.encode(errors="ignore").decode())
    cached = CachedVerdict(verdict, "0" * 64, 5, "masked", "m", "c", verified, "1")
    assert decode_verdict(encode_verdict(cached)) == cached


@given(st.binary() | st.none())
def test_anything_else_is_a_miss(value: bytes | None) -> None:
    decode_verdict(value)
    decode_verdict(FORMAT + (value or b""))


def test_another_format_or_another_content_is_a_miss() -> None:
    good = encode_verdict(
        CachedVerdict(Verdict(label="safe", score=0.1), "0" * 64, 5, "masked", "m", "c", True, "1")
    )
    assert decode_verdict(b"\x02" + good[1:]) is None
    assert decode_verdict(good[:-1]) is None
    assert decode_verdict(FORMAT + msgspec.msgpack.encode(["x"])) is None
    assert decode_verdict(b"") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"origin_decision": "not an id"},
        {"origin_decision": "0" * 64 + "\n"},
        {"kept_at_ms": -1},
        {"kept_at_ms": 2**63},
        {"rationale_form": "plain"},
        {"verdict": Verdict(label="safe", score=float("nan"))},
        {"verdict": Verdict(label="safe", score=float("inf"))},
        {"verdict": Verdict(label="safe", score=-0.1)},
        {"verdict": Verdict(label="unsafe", score=1.1)},
        {"verdict": Verdict(label="unsafe", score=1.0, category_scores={"S1": float("nan")})},
        {"verdict": Verdict(label="unsafe", score=1.0, codes=("not a code",))},
        {"verdict": Verdict(label="safe", score=0.1, rationale="x" * LARGEST_BYTES)},
    ],
    ids=str,
)
def test_what_could_not_become_a_decision_is_a_miss(changes: dict[str, Any]) -> None:
    good = CachedVerdict(Verdict(label="safe", score=0.1), "0" * 64, 5, "masked", "m", "c", True, "1")
    assert decode_verdict(encode_verdict(good)) == good
    assert decode_verdict(encode_verdict(msgspec.structs.replace(good, **changes))) is None


def test_the_same_bytes_give_the_same_object_and_never_another_verdict() -> None:
    decoder = VerdictDecoder()
    cached = CachedVerdict(Verdict(label="safe", score=0.1), "0" * 64, 5, "masked", "m", "c", True, "1")
    others = [msgspec.structs.replace(cached, kept_at_ms=number) for number in range(10_000)]
    first = decoder.decode(encode_verdict(cached))
    assert first == cached
    assert decoder.decode(encode_verdict(cached)) is first
    assert [decoder.decode(encode_verdict(other)) for other in others] == others
    assert decoder.decode(encode_verdict(cached)) == cached
    assert decoder.decode(None) is None
    assert decoder.decode(b"\x02") is None
    assert decoder.decode(b"\x02") is None


def test_large_entries_are_not_held() -> None:
    decoder = VerdictDecoder()
    verdict = Verdict(label="safe", score=0.1, rationale="x" * 5_000)
    value = encode_verdict(CachedVerdict(verdict, "0" * 64, 5, "masked", "m", "c", True, "1"))
    assert decoder.decode(value) is not decoder.decode(value)


def test_how_a_message_was_cut_is_kept_with_its_verdict() -> None:
    windows = (
        WindowVerdict(label="unsafe", score=0.9, codes=("C1",)),
        WindowVerdict(label="safe", score=None),
    )
    verdict = Verdict(label="unsafe", score=0.9, windows=3, turns_left_out=2, by_window=windows)
    cached = CachedVerdict(verdict, "0" * 64, 5, "masked", "m", "c", True, "1")
    assert decode_verdict(encode_verdict(cached)) == cached


def test_an_entry_from_before_messages_were_cut_is_of_a_whole_one() -> None:
    cached = CachedVerdict(Verdict(label="safe", score=0.1), "0" * 64, 5, "masked", "m", "c", True, "1")
    content = msgspec.msgpack.decode(encode_verdict(cached)[1:])
    for name in ("windows", "turns_left_out", "by_window"):
        del content[0][name]
    assert decode_verdict(FORMAT + msgspec.msgpack.encode(content)) == cached
