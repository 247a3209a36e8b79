from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from guard.prompt_encoding import TextEncoder
from tests.model_folders import write_tokenizer
from tests.tokenizer_kinds import TEXTS, TOKENIZERS, encoder

MANY = 1_000_000


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_each_token_begins_in_the_text_and_none_before_the_one_before(name: str, text: str) -> None:
    (ids,) = encoder(name).plain([text])
    starts = encoder(name).token_starts(text, MANY)
    assert starts is not None
    assert len(starts) == len(ids)
    assert starts == sorted(starts)
    assert all(0 <= at < len(text) for at in starts)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_more_tokens_than_asked_for_are_none(name: str) -> None:
    text = "gambling \ufdfa <think> casino" * 20
    (ids,) = encoder(name).plain([text])
    assert encoder(name).token_starts(text, len(ids)) is not None
    assert encoder(name).token_starts(text, len(ids) - 1) is None


def test_a_text_that_is_an_added_token_begins_at_each_character(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["ignore_merges"] = True  # a whole word of the vocabulary is one token
    content["pre_tokenizer"]["use_regex"] = False  # and a whole text is one word
    path.write_text(json.dumps(content))
    found = TextEncoder(tmp_path)
    assert found.token_starts("<think>", MANY) == list(range(len("<think>")))
    assert found.token_starts("<think>", len("<think>") - 1) is None


@pytest.mark.parametrize("unit", ["\ufdfa", "\U0001f600", "lorem ipsum "], ids=ascii)
def test_a_text_far_too_long_is_not_encoded(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = encoder("shipped")
    monkeypatch.setattr(shipped, "_plain", None)
    assert shipped.token_starts(unit * 160_000, 20_000) is None
