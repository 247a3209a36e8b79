"""A cached verdict as bytes: one byte of version, then MessagePack. Anything else decodes to None, a miss."""

from __future__ import annotations

from typing import Final

import msgspec

from workers.ports import CachedVerdict

# A change that another version of the worker would misread takes the next number; entries of other numbers
# are misses. A field at the end of CachedVerdict with a default is none: it is passed over, or filled in.
FORMAT: Final = b"\x01"
# A larger entry is no verdict of ours, and its decision might not fit its topic: a byte may become six of
# JSON, and topics take a megabyte. A rationale of 512 tokens has some 3 kB.
LARGEST_BYTES: Final = 131_072
# What is not decoded twice: entries of at most so many bytes, as nearly all are, and so many of them. With
# what they decode to some 5 MB, and never more than four times that.
_KNOWN_BYTES: Final = 4_096
_MOST_KNOWN: Final = 2_048
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(CachedVerdict)


def encode_verdict(verdict: CachedVerdict) -> bytes:
    """The bytes to keep."""
    return FORMAT + _ENCODER.encode(verdict)


def decode_verdict(value: bytes | None) -> CachedVerdict | None:
    """The verdict; None for what is none of this version, or could not become a decision. Never raises."""
    if value is None or value[:1] != FORMAT or len(value) > LARGEST_BYTES:
        return None
    try:
        return _DECODER.decode(value[1:])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


class VerdictDecoder:
    """As `decode_verdict`; the same bytes give the same object as lately, so that it is not weighed anew."""

    def __init__(self) -> None:
        self._known: dict[bytes, CachedVerdict] = {}

    def decode(self, value: bytes | None) -> CachedVerdict | None:
        """The verdict; None for what is none of this version, or could become no decision. Never raises."""
        if value is None:
            return None
        verdict = self._known.get(value)
        if verdict is None and (verdict := decode_verdict(value)) is not None and len(value) <= _KNOWN_BYTES:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[value] = verdict
        return verdict
