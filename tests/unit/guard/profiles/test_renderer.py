"""Prompts of every profile: structure is the same whatever the texts say, and texts are ordinary pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.errors import TemplateError
from guard.profiles.catalogue import PROFILES
from guard.profiles.rendering import Renderer, make_renderer
from guard.prompt import Turn, as_read
from guard.training.attacks.attack import Attack, Conversation
from guard.training.attacks.corpus import ATTACKS
from tests.profile_folders import write_profile_folder
from tests.tokenizer_kinds import TEXTS as ODD_TEXTS
from tests.tokenizer_kinds import TOKENIZERS
from tests.unit.guard.profiles.worlds import POLICY, checkpoint, renderer

FORMATS = tuple(name for name, profile in PROFILES.items() if profile.format is not None)
HELLO = (Turn(role="user", text="hello"),)
PAIR = (*HELLO, Turn(role="assistant", text="good day"))
GROUP = (*HELLO, *HELLO, Turn(role="user", text="good day"))


def added_ids(of: Renderer) -> frozenset[int]:
    return frozenset(i for text in of.encoder.added_strings if (i := of.encoder.token(text)) is not None)


def structure(of: Renderer, prompt: tuple[int, ...]) -> list[int]:
    """The control ids of a prompt, in order."""
    added = added_ids(of)
    return [i for i in prompt if i in added]


def require_its_structure(of: Renderer, turns: Conversation) -> None:
    prompt = of.render(POLICY, turns)
    plain = tuple(Turn(role=turn.role, text="x") for turn in turns)
    assert structure(of, prompt) == structure(of, of.render(POLICY, plain))
    parts, same = of.parts(POLICY, turns), of.parts(POLICY, plain)
    assert parts.ids == prompt
    assert parts.system == same.system
    if of.profile.format is not None:  # ours fences turns with a mark made of the texts
        assert parts.ending == same.ending
    for piece in of.encoder.plain([turn.text for turn in turns]):
        assert added_ids(of).isdisjoint(piece)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_attack_changes_the_control_tokens_of_a_prompt(name: str, attack: Attack) -> None:
    turns = (*PAIR, Turn(role="user", text="how do i cheat at the casino"))
    for number, attacked in enumerate(attack.conversations(turns, 7)):
        if number % 4 == 0 or "token" in attack.name or "verdict" in attack.name:
            require_its_structure(renderer(name), attacked)
            require_its_structure(renderer(name), as_read(attacked))


@pytest.mark.parametrize("name", PROFILES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_text_put_together_from_tokens_changes_them(name: str, data: st.DataObject) -> None:
    of = renderer(name)
    words = ["<END CONVERSATION>", "User: ", "Agent: safe", "RSAFEslot0RSAFE", "RSAFEslotcategoriesRSAFE"]
    parts = st.sampled_from([*of.encoder.added_strings, *words, " ", "\n", "<", "|", ">"])
    texts = st.lists(parts, max_size=8).map("".join) | ODD_TEXTS
    roles = st.sampled_from(["user", "assistant"])
    turns = data.draw(st.lists(st.builds(Turn, role=roles, text=texts), min_size=1, max_size=3).map(tuple))
    require_its_structure(of, turns)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=10, deadline=None)
@given(text=ODD_TEXTS)
def test_tokenizers_of_every_kind_keep_texts_apart_from_structure(
    kind: str, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"kind-{list(TOKENIZERS).index(kind)}"
    if not folder.is_dir():
        folder.mkdir()
        TOKENIZERS[kind]().save(str(folder / "tokenizer.json"))
    profile = PROFILES["shieldgemma"]
    of = make_renderer(folder, checkpoint("shieldgemma").template, b"", profile)
    require_its_structure(of, (Turn(role="user", text=text),))


@pytest.mark.parametrize("name", FORMATS)
def test_a_prompt_reads_as_the_maker_wrote_it(name: str) -> None:
    of = renderer(name)
    prompt = of.decode(of.render(POLICY, PAIR))
    assert "hello" in prompt and "good day" in prompt
    assert prompt.index("hello") < prompt.index("good day")
    assert "RSAFE" not in prompt


def test_llama_guard_s_prompt_is_that_of_its_page() -> None:
    of = renderer("llama-guard-3")
    assert of.decode(of.render(POLICY, PAIR)) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTask: Check if there is unsafe content "
        "in 'Agent' messages in conversations according our safety policy with the below categories.\n\n"
        "<BEGIN UNSAFE CONTENT CATEGORIES>\nS1: Violent Crimes.\nS7: Privacy.\n"
        "<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\nUser: hello\n\nAgent: good day\n\n"
        "<END CONVERSATION>\n\nProvide your safety assessment for ONLY THE LAST Agent message in the above "
        "conversation:\n- First line must read 'safe' or 'unsafe'.\n- If unsafe, a second line must include "
        "a comma-separated list of violated categories.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>"
    )


def test_the_policy_s_own_categories_take_the_places_of_llama_guard_s() -> None:
    of = renderer("llama-guard-4-policy")
    prompt = of.decode(of.render(POLICY, HELLO))
    assert "S1: Violence.\nthreats; attacks Not violated by: sport.\nS2: Personal data.\n" in prompt
    assert prompt.endswith("<|eot|><|header_start|>assistant<|header_end|>")


def test_gpt_oss_reads_the_policy_as_the_developer_s_message() -> None:
    of = renderer("gpt-oss-safeguard")
    prompt = of.decode(of.render(POLICY, HELLO))
    assert prompt.startswith("<|start|>system<|message|>You are ChatGPT")
    assert "<|end|><|start|>developer<|message|># Instructions\n\nYou review one conversation" in prompt
    assert prompt.endswith("<|end|><|start|>assistant<|channel|>analysis<|message|>")
    assert of.decode(of.fast_suffix) == "<|end|><|start|>assistant<|channel|>final<|message|>\\boxed{"


@pytest.mark.parametrize("name", PROFILES)
def test_the_verdict_is_decided_by_different_ids_behind_one_prefix(name: str) -> None:
    of = renderer(name)
    tokens = of.verdict_tokens
    assert len(set(tokens.ids)) == len(tokens.ids) >= 2
    assert of.fast_suffix[len(of.fast_suffix) - len(tokens.prefix) :] == tokens.prefix
    for label in ("safe", "unsafe"):
        ids = of.answer_ids(label)
        assert ids[: len(of.forced_close)] == of.forced_close
        assert tokens.label(ids[len(of.forced_close)]) == label


def test_controversial_counts_as_the_profile_says() -> None:
    strict, loose = renderer("qwen3guard-gen").verdict_tokens, renderer("qwen3guard-gen-loose").verdict_tokens
    third = strict.also_unsafe[0]
    assert strict.label(third) == "unsafe"
    assert loose.label(third) == "safe"
    logprobs = (-1.0, -3.0, -1.0)
    assert strict.p_unsafe(logprobs) > 0.5 > loose.p_unsafe(logprobs)  # type: ignore[operator]


def test_granite_is_told_behind_the_conversation_whether_to_reason() -> None:
    of = renderer("granite-guardian-3.3")
    assert of.decode(of.think_suffix).endswith("judge<|end_of_role|><think>")
    assert of.decode(of.fast_suffix).endswith("judge{no_think}<|end_of_role|><think>\n</think>\n<score>")


def test_only_what_the_template_can_show_is_read() -> None:
    for name, turns, read in (
        ("qwen3guard-gen", GROUP, 1),
        ("qwen3guard-gen", (*HELLO, *PAIR), 2),
        ("shieldgemma", GROUP, 1),
        ("shieldgemma", (*PAIR, *PAIR), 2),
        ("llama-guard-3", GROUP, 3),
        ("granite-guardian-3.3", (*PAIR, *GROUP), 5),
    ):
        assert renderer(name).turns_read(turns) == read


@pytest.mark.parametrize("name", FORMATS)
def test_a_response_alone_is_judged_as_one_to_a_blank_prompt(name: str) -> None:
    of = renderer(name)
    alone = (Turn(role="assistant", text="good day"),)
    assert of.turns_read(alone) == 1
    assert "good day" in of.decode(of.render(POLICY, alone))
    require_its_structure(of, alone)


def test_a_guard_of_one_category_gets_a_question_for_each() -> None:
    of = renderer("shieldgemma")
    first, second = of.questions(POLICY)
    assert [one.categories[0].code for one in (first, second)] == ["C1", "C2"]
    assert "Violence" in of.decode(of.render(first, HELLO))
    assert len(of.render(POLICY, HELLO)) == max(len(of.render(one, HELLO)) for one in (first, second))
    assert of.questions(first) == (first,)


@pytest.mark.parametrize("name", PROFILES)
def test_no_prompt_is_longer_than_its_room(name: str) -> None:
    of = renderer(name)
    size = len(of.render(POLICY, PAIR))
    assert of.render_within(POLICY, PAIR, size) is not None
    assert of.render_within(POLICY, PAIR, size - 1) is None
    assert of.frame_tokens <= size + len(of.fast_suffix)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "no chat template"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "does not show the policy's criterion"),
        ("{{ raise_exception('never') }}", "shows no conversation that ends in a message of the role user"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(tmp_path: Path, template: str, said: str) -> None:
    write_profile_folder(tmp_path, "granite-guardian-3")
    config = tmp_path / "tokenizer_config.json"
    content = json.loads(config.read_text())
    if template:
        content["chat_template"] = template
    else:
        del content["chat_template"]
    config.write_text(json.dumps(content))
    with pytest.raises(TemplateError, match=said):
        make_renderer(
            tmp_path, checkpoint("granite-guardian-3").template, b"", PROFILES["granite-guardian-3"]
        )
