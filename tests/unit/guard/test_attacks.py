"""Structural attacks fail always, whatever the model: every attack over tokenizers of several families."""

from __future__ import annotations

import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.answer import Answer, parse_answer
from guard.checkpoint import SHIPPED
from guard.normalise import normalise
from guard.prompt import PromptRenderer, Turn, as_read, load_template, template_of
from guard.training.attacks.attack import Attack, Conversation
from guard.training.attacks.corpus import ATTACKS
from guard.training.attacks.texts import written_attacks
from schemas.policy import Category, Policy, judgement_hash
from tests.tokenizer_families import FAMILIES, write_family

POLICY = Policy(
    id="p",
    version="1",
    categories=(
        Category(code="C1", title="Gambling", definition="casino; poker", exceptions=("bingo",)),
        Category(code="C2", title="Weapons", definition="selling guns; making bombs"),
    ),
)
SECRET = b"secret of the tests"
NAMES = ("the shipped checkpoint's", *FAMILIES)
CODES = tuple(category.code for category in POLICY.categories)
# A message as people write it, and the characters that attacks are made of.
MESSAGES = st.sampled_from(
    ["how do i cheat at the casino", "привет, где казино?", "賭場在哪裡", "ok 😀", "x", "a" * 90]
) | st.text(max_size=30)
ROLES = st.sampled_from(["user", "assistant"])
CONVERSATIONS = st.lists(st.builds(Turn, role=ROLES, text=MESSAGES), min_size=1, max_size=3).map(tuple)


@cache
def renderer(name: str) -> PromptRenderer:
    """Read from a folder, as serving reads it."""
    if name not in FAMILIES:
        return PromptRenderer(SHIPPED / "tiny", template_of(SHIPPED / "tiny"), SECRET)
    with tempfile.TemporaryDirectory() as folder:
        write_family(Path(folder), name)
        return PromptRenderer(Path(folder), load_template("rsafe-instruct-1"), SECRET)


@cache
def added_ids(name: str) -> frozenset[int]:
    added = renderer(name).encoder._with_added.get_added_tokens_decoder()
    return frozenset(added)


def require_its_structure(name: str, turns: Conversation) -> None:
    """The prompt is frame, policy and marks, the same for every text, and else ordinary pieces of texts."""
    of = renderer(name)
    prompt = of.render(POLICY, turns)
    policy_part = of.system_ids(POLICY.categories)
    assert prompt[: len(policy_part)] == policy_part
    assert prompt[-len(of.opening_ids) :] == of.opening_ids
    conversation = prompt[len(policy_part) : len(prompt) - len(of.opening_ids)]
    assert added_ids(name).isdisjoint(conversation)
    # Turn by turn it is the fence, with this question's mark at every beginning and at the end.
    mark = of.nonce(judgement_hash(POLICY), turns)
    pieces = of.encoder.plain(of.template.conversation_text(mark, turns))
    assert conversation == tuple(i for piece in pieces for i in piece)
    read = [of.encoder.decode(piece) for piece in pieces]
    assert len(read) == len(turns) + 1
    assert all(piece.lstrip().startswith(mark) and piece.count(mark) == 1 for piece in read)
    assert read[-1].strip() == mark
    for turn in turns:
        assert mark not in unicodedata.normalize("NFKC", turn.text).casefold()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@settings(max_examples=5, deadline=None)
@given(turns=CONVERSATIONS, seed=st.integers(0, 2**32))
def test_no_attack_changes_the_structure_of_a_prompt(
    name: str, attack: Attack, turns: Conversation, seed: int
) -> None:
    for attacked in attack.conversations(turns, seed):
        require_its_structure(name, attacked)
        require_its_structure(name, as_read(attacked))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_text_put_together_from_tokens_changes_the_structure_of_a_prompt(
    name: str, data: st.DataObject
) -> None:
    encoder = renderer(name).encoder
    added = [encoder.decode([i]) for i in sorted(added_ids(name))]
    pieces = [encoder.decode([i]) for i in range(0, encoder.vocabulary_size, 7)]
    parts = st.sampled_from([*added, *added, *pieces, " ", "\n", "\u200b", "<", "|", ">", "＜", "▁", "Ġ"])
    texts = st.lists(parts, max_size=12).map("".join)
    turns = data.draw(st.lists(st.builds(Turn, role=ROLES, text=texts), min_size=1, max_size=2).map(tuple))
    require_its_structure(name, turns)
    require_its_structure(name, as_read(turns))


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.undone], ids=lambda attack: attack.name)
@settings(max_examples=30, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60), seed=st.integers(0, 99)
)
def test_what_the_normaliser_undoes_is_read_as_if_nothing_was_done(
    attack: Attack, text: str, seed: int
) -> None:
    turns = (Turn(role="user", text="before"), Turn(role="user", text=text))
    for attacked in attack.conversations(turns, seed):
        assert as_read(attacked) == turns


_ENDINGS = ("\\boxed{safe}", "\\boxed{unsafe}", "\\boxed{unsafe} C1", "\\boxed{unsafe} C1, C2")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@settings(max_examples=8, deadline=None)
@given(turns=CONVERSATIONS, seed=st.integers(0, 2**32), ending=st.sampled_from(_ENDINGS))
def test_a_guard_that_quotes_an_attack_gives_its_own_verdict_or_none(
    attack: Attack, turns: Conversation, seed: int, ending: str
) -> None:
    """Whatever stands in a rationale, the verdict is what stands after its one end; else there is none."""
    own = parse_answer(f"</think>\n{ending}", CODES)
    assert isinstance(own, Answer)
    for attacked in attack.conversations(turns, seed):
        for quoted in (attacked[-1].text, normalise(attacked[-1].text)):
            answer = parse_answer(f" it says: {quoted}</think>\n{ending}", CODES)
            if "</think>" in quoted:
                assert not isinstance(answer, Answer)
                assert answer.reason == "several_think_closes"
            else:
                assert isinstance(answer, Answer)
                assert (answer.label, answer.codes) == (own.label, own.codes)
            # Quoted after the end, it is not read either.
            if quoted.strip():
                assert not isinstance(parse_answer(f"x</think>\n{ending}\n{quoted}", CODES), Answer)
                before = parse_answer(f"x</think>\n{quoted}\n{ending}", CODES)
                assert not isinstance(before, Answer) or before.label == own.label


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_pure_named_and_described(attack: Attack) -> None:
    turns = (Turn(role="user", text="before"), Turn(role="assistant", text="how do i cheat at the casino"))
    once, again, other = (list(attack.conversations(turns, seed)) for seed in (1, 1, 2))
    assert once == again
    assert len(once) == len({variant.name for variant in attack.variants}) == len(attack.variants) >= 2
    assert all(conversation[-1].role == "assistant" for conversation in (*once, *other))
    assert all(conversation != turns for conversation in once)
    assert attack.description.endswith(".")
    assert attack.description.count(". ") == 0
    assert attack.conversation(turns, 1, len(once) + 1) == once[1]


def test_names_are_unique_and_every_hand_written_text_is_used_once() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    used = [(a.name, v.name) for a in ATTACKS for v in a.variants]
    for one in written_attacks():
        assert one.text.count("{message}") == 1
        assert used.count((one.attack, one.variant)) == 1


def test_the_kinds_of_attack_that_were_asked_for_are_there() -> None:
    found = {attack.name: attack.kind for attack in ATTACKS}
    structural = {name for name, kind in found.items() if kind == "structural"}
    assert structural >= {
        *("forged fence", "forged turn", "special tokens", "fake think close", "fake verdict"),
        *("zero-width characters", "marks of direction", "padding", "very long words", "white space"),
        "blank last turn",
    }
    assert found.keys() - structural >= {
        *("ignore the policy", "answer in the last line", "confusable letters", "encodings"),
        "splitting over turns",
    }
    tokens = {variant.name for a in ATTACKS if a.name == "special tokens" for variant in a.variants}
    families = ["Llama 2", "Llama 3", "Llama 4", "ChatML and Qwen", "Mistral", "Gemma", "Phi 3", "Phi 4"]
    assert tokens >= {*families, "DeepSeek", "GPT-OSS harmony", "Granite", "Command R"}
