import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.prompt_encoding import TextEncoder
from guard.prompt_length import LengthBound, length_bound
from tests.model_folders import write_tokenizer
from tests.tokenizer_kinds import PIECES, TEXTS, TOKENIZERS, encoder


@cache
def bound(name: str) -> LengthBound:
    found = length_bound(json.loads(TOKENIZERS[name]().to_str()))
    assert found is not None
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, max_size=3), part=st.sampled_from([1, 2, 3, 7, 512]))
def test_nothing_that_fits_is_refused(name: str, texts: list[str], part: int) -> None:
    tokens = sum(map(len, encoder(name).plain(texts)))
    assert not bound(name).exceeded(texts, tokens, part)
    assert not encoder(name).surely_longer(texts, tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("unit", PIECES, ids=ascii)
def test_nothing_that_fits_is_refused_in_long_runs(name: str, unit: str) -> None:
    for text in (unit * 1200, "a" + unit * 1200, (unit + "\u0301") * 600, ("a" + unit) * 600):
        tokens = sum(map(len, encoder(name).plain([text])))
        assert not encoder(name).surely_longer([text], tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", ["\ufdfa", "\U0001f600", "lorem ipsum ", "\u4e2d"], ids=ascii)
def test_what_is_much_too_long_is_refused(name: str, text: str) -> None:
    assert encoder(name).surely_longer([text * 40_000], 500)
    assert encoder(name).surely_longer([text] * 40_000, 500)


class Counting:
    """A normalizer that changes nothing and counts what it is given."""

    def __init__(self) -> None:
        self.characters = 0

    def normalize_str(self, text: str) -> str:
        self.characters += len(text)
        return text


def test_work_is_bounded_by_the_room() -> None:
    counting = Counting()
    eights = LengthBound(counting, 0, {"a": 8}, in_bytes=False)  # type: ignore[arg-type]
    assert eights.exceeded(["a" * 1_000_000], 100)
    assert counting.characters <= 100 * 8 + 512
    assert not eights.exceeded(["a" * 800], 100)
    assert eights.exceeded(["a" * 801], 100)


def test_each_text_is_counted_by_itself() -> None:
    eights = LengthBound(None, 0, {"a": 8}, in_bytes=False)
    assert eights.exceeded(["a"] * 101, 100)
    assert not eights.exceeded(["a"] * 100, 100)
    assert not eights.exceeded([], 0)
    assert eights.exceeded(["a"], 0)


def test_a_character_without_a_token_counts_as_one() -> None:
    assert LengthBound(None, 0, {"a": 8}, in_bytes=False).exceeded(["\u4e2d" * 101], 100)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFD"}]}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"String": "a"}, "behavior": "Removed", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
                ],
            }
        },
        {"model": {"type": "WordPiece"}},
        {"model": {"continuing_subword_prefix": "##"}},
        {"model": {"end_of_word_suffix": "</w>"}},
        {"model": {"vocab": {"a": 0}}},
        {"model": {"ignore_merges": True}, "normalizer": {"type": "NFC"}},
    ],
    ids=str,
)
def test_no_bound_where_text_may_vanish_or_run_together(tmp_path: Path, change: dict[str, Any]) -> None:
    write_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert length_bound(content) is not None
    model = content["model"] | change.get("model", {})
    assert length_bound(content | change | {"model": model}) is None


def test_a_tokenizer_without_a_bound_refuses_nothing(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Nmt"}}))
    assert not TextEncoder(tmp_path).surely_longer(["word " * 1000], 10)
