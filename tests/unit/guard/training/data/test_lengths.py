from collections.abc import Sequence

import pytest

from guard.answer import Answer, parse_answer
from guard.checkpoint import SHIPPED
from guard.errors import TemplateError
from guard.prompt import PromptRenderer, Turn, template_of
from guard.training.data.drafts import Drops, unmatched_twins
from guard.training.data.lengths import answer_tokens, within_lengths
from guard.training.row_encoding import RowEncoder
from tests.unit.guard.training.data.samples import draft, policy, row

FOLDER = SHIPPED / "tiny"


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(FOLDER, template_of(FOLDER), b"x")


def test_what_is_too_long_goes_with_its_twin_and_nothing_is_cut(renderer: PromptRenderer) -> None:
    turns = (Turn(role="user", text="word " * 60),)
    long = policy(*(f"B{number}" for number in range(1, 9)))
    drafts = [
        draft(1),
        draft(2, turns=turns, policy=long, codes=("B1",), twin="s-3"),
        draft(3, turns=turns, safe=True, twin="s-2"),
        draft(4, rationale="because " * 30),
    ]
    most = len(renderer.render(long, turns)) - 1
    drops = Drops()
    kept, tokens = within_lengths(drafts, renderer, most, 60, drops)
    assert kept == drafts[:1]
    assert drops.counts == {
        ("s", "prompt_too_long"): 1,
        ("s", "twin_dropped"): 1,
        ("s", "answer_too_long"): 1,
    }
    assert unmatched_twins([d.row for d in kept]) == []
    assert tokens == {"s-1": len(renderer.render(drafts[0].row.policy, drafts[0].row.turns))}


def test_a_prompt_of_just_the_limit_stays(renderer: PromptRenderer) -> None:
    one = draft(1)
    length = len(renderer.render(one.row.policy, one.row.turns))
    assert within_lengths([one], renderer, length, 60, Drops())[0] == [one]
    assert within_lengths([one], renderer, length - 1, 60, Drops())[0] == []


def test_an_answer_is_counted_as_it_is_written(renderer: PromptRenderer) -> None:
    answered = row(1, rationale="because of this.", codes=("A1", "A2"))
    text = f" {answered.rationale}" + renderer.template.answer_text("unsafe") + " A1, A2"
    assert parse_answer(text, ["A1", "A2"]) == Answer("unsafe", ("A1", "A2"), "because of this.")
    assert answer_tokens(renderer, answered) == len(renderer.encoder.structure(text)) + 1


@pytest.mark.parametrize("rationale", ["", "because of this.", "  with room around.  "])
def test_the_answer_that_is_measured_is_the_one_that_is_taught(
    renderer: PromptRenderer, rationale: str
) -> None:
    answered = row(1, rationale=rationale, codes=("A1", "A3"))
    taught = RowEncoder(renderer, 512, 512).answer(answered, "think", rationale)
    assert taught is not None
    assert answer_tokens(renderer, answered) == len(taught)


def test_a_text_that_cannot_be_encoded_goes_with_its_twin(
    renderer: PromptRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = renderer.encoder.plain

    def refusing(texts: Sequence[str]) -> list[tuple[int, ...]]:
        if any("unspeakable" in text for text in texts):
            raise TemplateError("the tokenizer makes tokens of its added vocabulary of a text")
        return plain(texts)

    monkeypatch.setattr(renderer.encoder, "plain", refusing)
    turns = (Turn(role="user", text="unspeakable"),)
    drafts = [
        draft(1, turns=turns, twin="s-2"),
        draft(2, turns=turns, safe=True, twin="s-1"),
        draft(3),
        draft(4, rationale="an unspeakable reason"),
    ]
    drops = Drops()
    kept, tokens = within_lengths(drafts, renderer, 512, 512, drops)
    assert [one.row.id for one in kept] == list(tokens) == ["s-3"]
    assert drops.counts == {("s", "not_encodable"): 3}
