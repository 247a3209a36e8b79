import json
from pathlib import Path

import pytest

from guard.checkpoint import SHIPPED
from guard.errors import TrainingError
from guard.prompt import PromptRenderer, template_of
from guard.training.drills import LookupDrill, RepeatDrill, WordDrill
from guard.training.packing import BUILTIN, CUSTOM, FAST, Tree
from guard.training.tokenizer import TURN_END, generator_texts, save_tokenizer, token_id, train_tokenizer

FOLDER = SHIPPED / "tiny"


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(FOLDER, template_of(FOLDER), b"x")


def questions(tree: Tree) -> list[tuple[list[int], list[int]]]:
    """Ids and marks of every exchange."""
    return [
        (
            [i for i, e in zip(tree.ids, tree.exchange, strict=True) if e == number],
            [m for m, e in zip(tree.marks, tree.exchange, strict=True) if e == number],
        )
        for number in range(1, max(tree.exchange) + 1)
    ]


def contains(ids: list[int], piece: list[int]) -> bool:
    return any(ids[at : at + len(piece)] == piece for at in range(len(ids)))


@pytest.mark.parametrize("seed", range(5))
def test_a_listed_term_is_answered_with_what_follows_it(renderer: PromptRenderer, seed: int) -> None:
    tree = LookupDrill(renderer).draw(seed, 24, longest=4, in_text=True)
    head = [i for i, e in zip(tree.ids, tree.exchange, strict=True) if e == 0]
    unlisted = renderer.encoder.plain([" not"])[0][0]
    decisions = set()
    for ids, marks in questions(tree):
        if FAST in marks:
            assert ids[-1] in (renderer.verdict_tokens.safe, renderer.verdict_tokens.unsafe)
            continue
        term = ids[ids.index(renderer.opening_ids[-1]) + 1 : marks.index(CUSTOM)]
        decision = ids[marks.index(CUSTOM)]
        decisions.add(decision == unlisted)
        if decision != unlisted:
            assert contains(head, [*term, decision])
    assert decisions == {True, False}


def test_repeats_can_be_copied(renderer: PromptRenderer) -> None:
    tree = RepeatDrill(renderer).draw(3, 10)
    head = [i for i, e in zip(tree.ids, tree.exchange, strict=True) if e == 0]
    for ids, marks in questions(tree):
        assert contains(head, ids)
        assert marks[0] == 0
        assert all(marks[1:])


@pytest.mark.parametrize("small", [True, False])
def test_word_drill_asks_in_the_form_of_the_trace(renderer: PromptRenderer, small: bool) -> None:
    tree = WordDrill(renderer).draw(5, 40, small=small)
    head = [i for i, e in zip(tree.ids, tree.exchange, strict=True) if e == 0]
    seen = set()
    for ids, marks in questions(tree):
        if FAST in marks:
            continue
        mark = CUSTOM if CUSTOM in marks else BUILTIN
        seen.add(mark)
        text = renderer.decode(ids[1:])
        decision = ids[marks.index(mark)]
        assert text.endswith(" listed.")
        if " not listed." not in text and mark == CUSTOM:
            assert contains(head, [*ids[1 : marks.index(mark)], decision])
    assert seen == {CUSTOM, BUILTIN}


def test_a_vocabulary_that_splits_codes_is_named_by_its_field(tmp_path: Path) -> None:
    template = template_of(FOLDER)
    tokenizer = train_tokenizer(template, 300, generator_texts(template, 0, groups=3))
    save_tokenizer(tokenizer, tmp_path)
    end = {"eos_token_id": token_id(tokenizer, TURN_END)}
    (tmp_path / "generation_config.json").write_text(json.dumps(end))
    with pytest.raises(TrainingError, match=r"model\.vocabulary: found 300 tokens, which split \d+ of \d+"):
        LookupDrill(PromptRenderer(tmp_path, template, b"x"))
