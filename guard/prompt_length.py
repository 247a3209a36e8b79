"""Whether texts are too long for a prompt, without encoding them: a lower bound on their tokens.

A text may grow eighteenfold in a tokenizer's normalizer, and encoding takes far more time and memory than the
text itself. So a text is first measured in parts, each normalized alone, until the room is used up.

The bound: every unit of the normalized text (a byte, or a character where the vocabulary is of characters) is
in exactly one token, and a token that has this unit has at most as many units as the longest entry of the
vocabulary with it. Counting each unit as the inverse of that length counts every token as 1 at most.

That holds only where nothing between text and tokens may vanish or run together without limit. Tokenizers of
which this is not known (`length_bound` gives None) have no bound, and their texts are encoded at any length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tokenizers import normalizers, pre_tokenizers
from tokenizers.normalizers import Normalizer

# Characters normalized at once. U+FDFA becomes 18, so a part takes 1 ms and 2 MB at most.
_PART_CHARACTERS: Final = 512
# Units that a cut may add on each of its sides. Composition (NFC, NFKC) joins at most 4 code points into one,
# so what a cut keeps apart, and what is joined otherwise, are at most 5 code points of 4 bytes.
_CUT_UNITS: Final = 20
# Counts are sums of whole numbers, for sums of fractions could err upwards: so much is one token.
_ONE_TOKEN: Final = 1 << 32

_LOCAL: Final[Mapping[str, type[Normalizer]]] = {
    "NFD": normalizers.NFD,
    "NFKD": normalizers.NFKD,
    "Lowercase": normalizers.Lowercase,
    "StripAccents": normalizers.StripAccents,
}
_COMPOSING: Final[Mapping[str, type[Normalizer]]] = {"NFC": normalizers.NFC, "NFKC": normalizers.NFKC}
# These split a text and drop nothing of it; `Split` and `Punctuation` may be told to drop.
_KEEPING: Final = frozenset({"ByteLevel", "Split", "Punctuation", "Digits"})
# What SentencePiece does in a vocabulary of characters: `▁` for a space, and before the text.
_SPACE: Final = "▁"


class LengthBound:
    """A lower bound on the tokens of texts. Has no state: any thread may ask."""

    def __init__(
        self, normalizer: Normalizer | None, cut_units: int, lengths: Mapping[str, int], *, in_bytes: bool
    ) -> None:
        self._normalizer = normalizer
        self._cut_units = cut_units
        self._in_bytes = in_bytes
        weights = {unit: _ONE_TOKEN // length for unit, length in lengths.items()}
        # A byte-level vocabulary writes bytes as characters.
        self._weights: dict[Any, int] = (
            {byte: weights[character] for byte, character in _byte_characters().items()}
            if in_bytes
            else weights
        )

    def exceeded(self, texts: Sequence[str], room: int, part_characters: int = _PART_CHARACTERS) -> bool:
        """Whether the texts, each encoded by itself, have more tokens than `room`, for certain.

        False says nothing. The work is bounded by what `room` tokens can hold at most, not by the texts.
        """
        if sum(map(len, texts)) <= room and all(map(str.isascii, texts)):
            return False  # no normalizer makes ASCII longer; encoding this is bounded work as it is
        left = room
        for text in texts:
            left -= self._at_least(text, left, part_characters)
            if left < 0:
                return True
        return False

    def _at_least(self, text: str, enough: int, part_characters: int) -> int:
        """Tokens that the text has at least; counting ends at the first number over `enough`."""
        count = 0
        cut_before = False
        for start in range(0, len(text), part_characters):
            end = start + part_characters
            # No ASCII character is ever joined to what stands before it; nor is the end of the text.
            cut_after = not text[end : end + 1].isascii()
            count += self._weight(text[start:end], cuts=cut_before + cut_after)
            if count > enough * _ONE_TOKEN:
                break
            cut_before = cut_after
        return -(-count // _ONE_TOKEN)

    def _weight(self, part: str, *, cuts: int) -> int:
        if self._normalizer is not None:
            part = self._normalizer.normalize_str(part)
        units: Counter[Any] = Counter(part.encode() if self._in_bytes else part)
        # A character that no entry of the vocabulary has is spelt in tokens of its bytes.
        weights = {unit: self._weights.get(unit, _ONE_TOKEN) for unit in units}
        whole = sum(weights[unit] * count for unit, count in units.items())
        return max(0, whole - cuts * self._cut_units * max(weights.values(), default=0))


def length_bound(content: Mapping[str, Any]) -> LengthBound | None:
    """The bound of a tokenizer, given what `tokenizer.json` says, or None when none is known to hold."""
    model = content["model"]
    splits = _steps(content.get("pre_tokenizer"), "pretokenizers")
    in_bytes = any(step["type"] == "ByteLevel" for step in splits)
    if not _keeps_every_unit(model, in_bytes=in_bytes):
        return None
    if not all(_keeps_text(step) or (_writes_spaces(step) and not in_bytes) for step in splits):
        return None
    known = _known_normalizer(_steps(content.get("normalizer"), "normalizers"), in_bytes=in_bytes)
    if known is None:
        return None
    stages, cut_units = known
    # A text that comes out as added tokens is encoded anew in parts, which are then not composed.
    if cut_units and model.get("ignore_merges"):
        return None
    lengths = _longest_entries(model["vocab"])
    if not in_bytes:
        lengths[" "] = max(lengths.get(" ", 1), lengths.get(_SPACE, 1))
    normalizer = normalizers.Sequence(stages) if stages else None
    return LengthBound(normalizer, cut_units, lengths, in_bytes=in_bytes)


def _keeps_every_unit(model: Mapping[str, Any], *, in_bytes: bool) -> bool:
    """Whether each unit is in a token; one without would vanish, or run together with its neighbours."""
    if model.get("type") != "BPE" or not (in_bytes or model.get("byte_fallback")):
        return False
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    spelt = _byte_characters().values() if in_bytes else [f"<0x{byte:02X}>" for byte in range(256)]
    return all(one in model["vocab"] for one in spelt)


def _longest_entries(vocabulary: Iterable[str]) -> dict[str, int]:
    """Unit → the length of the longest entry that has it."""
    lengths: dict[str, int] = {}
    for entry in vocabulary:
        for unit in set(entry):
            lengths[unit] = max(lengths.get(unit, 1), len(entry))
    return lengths


def _steps(step: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """A normalizer or pre-tokenizer as the flat list of its steps."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [inner for one in step[key] for inner in _steps(one, key)]
    return [step]


def _known_normalizer(
    steps: Sequence[Mapping[str, Any]], *, in_bytes: bool
) -> tuple[list[Normalizer], int] | None:
    """The stages that matter for the length, and what a cut may add; None when a stage is not known."""
    stages: list[Normalizer] = []
    cut_units = 0
    for step in steps:
        name = step["type"]
        if name in _LOCAL:
            # What was composed would be taken apart again, and a cut add more than `_CUT_UNITS`.
            if cut_units and name in ("NFD", "NFKD"):
                return None
            stages.append(_LOCAL[name]())
        elif name in _COMPOSING and not cut_units:
            stages.append(_COMPOSING[name]())
            cut_units = _CUT_UNITS
        elif in_bytes or not _writes_spaces(step):
            return None
    return stages, cut_units


def _keeps_text(step: Mapping[str, Any]) -> bool:
    return step["type"] in _KEEPING and step.get("behavior") != "Removed"


def _writes_spaces(step: Mapping[str, Any]) -> bool:
    match step:
        case {"type": "Prepend", "prepend": mark} | {"type": "Metaspace", "replacement": mark}:
            return bool(mark == _SPACE)
        case {"type": "Replace", "pattern": {"String": " "}, "content": mark}:
            return bool(mark == _SPACE)
    return False


def _byte_characters() -> dict[int, str]:
    """Byte → the character that a byte-level vocabulary writes for it (GPT-2's table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    assert set(table.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    return table
