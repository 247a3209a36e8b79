import pytest

from guard.answer import Answer, parse_answer
from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, Turn, template_of
from guard.training.data.drafts import Drops, unmatched_twins
from guard.training.data.lengths import answer_tokens, within_lengths
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
    answered = row(1, rationale=" because of this.")
    text = answered.rationale + renderer.template.answer_text("unsafe") + " A1"
    assert parse_answer(text, ["A1"]) == Answer("unsafe", ("A1",), "because of this.")
    assert answer_tokens(renderer, answered) == len(renderer.encoder.structure(text)) + 1
