from __future__ import annotations

import asyncio
import time

import pytest

from guard.answer import Answer, parse_answer
from guard.errors import EngineDead, EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, load_template
from guard.serving.engine import EngineParameters
from guard.serving.scripted_engine import ScriptedEngine
from tests.model_folders import write_bare_folder
from tests.waiting import until

PROMPTS = [(5, 6, number) for number in range(300)]


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> PromptRenderer:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return PromptRenderer(folder, load_template("rsafe-compact-1"), b"secret")


def parameters(renderer: PromptRenderer, max_tokens: int = 100) -> EngineParameters:
    tokens = renderer.verdict_tokens
    return EngineParameters(
        max_tokens=max_tokens,
        logprob_token_ids=(tokens.safe, tokens.unsafe),
        stop_token_ids=renderer.eos_token_ids,
    )


async def test_every_answer_parses_and_both_labels_come(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer)
    await engine.start()
    labels = set()
    for prompt in PROMPTS:
        completion = await engine.generate(prompt, parameters(renderer), time.monotonic() + 60)
        answer = parse_answer(renderer.decode(completion.token_ids), [])
        assert isinstance(answer, Answer)
        labels.add(answer.label)
        pair = completion.verdict_logprobs[0]
        assert pair is not None
        assert (pair[1] > pair[0]) == (answer.label == "unsafe")
    assert labels == {"safe", "unsafe"}
    assert engine.calls_answered == len(PROMPTS)


async def test_after_a_closed_rationale_the_verdict_alone_follows(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer)
    await engine.start()
    tokens = renderer.verdict_tokens
    for prompt in PROMPTS:
        asked = prompt + renderer.fast_suffix
        completion = await engine.generate(asked, parameters(renderer, 1), time.monotonic() + 60)
        assert completion.token_ids[0] in (tokens.safe, tokens.unsafe)


async def test_failures_come_first_and_once(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer, failures=[EngineFailed("once")])
    await engine.start()
    with pytest.raises(EngineFailed, match="once"):
        await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 60)
    assert (await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 60)).token_ids


async def test_it_can_die_and_be_started_again(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer)
    await engine.start()
    engine.die()
    assert not engine.alive
    with pytest.raises(EngineDead):
        await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 60)
    await engine.start()
    assert engine.alive


async def test_a_hang_ends_as_a_death_when_it_is_noticed(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer, hang_timeout_s=0.05)
    await engine.start()
    engine.hang()
    assert engine.alive
    with pytest.raises(EngineDead):
        await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 60)
    await engine.gone()
    await engine.start()
    assert (await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 60)).token_ids


@pytest.mark.parametrize("delay_s", [0.0, 60.0])
async def test_a_call_whose_time_runs_out_in_a_hang_is_a_death(
    renderer: PromptRenderer, delay_s: float
) -> None:
    engine = ScriptedEngine(renderer, delay_s=delay_s, hang_timeout_s=0.1)
    await engine.start()
    engine.hang()
    with pytest.raises(EngineDead):
        await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 0.02)
    assert not engine.alive


async def test_a_call_that_is_slow_keeps_its_deadline(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer, delay_s=60)
    await engine.start()
    with pytest.raises(EngineTimeout):
        await engine.generate(PROMPTS[0], parameters(renderer), time.monotonic() + 0.02)
    assert engine.alive
    await engine.close()


async def test_it_starts_again_after_the_calls_of_the_dead_one_have_ended(renderer: PromptRenderer) -> None:
    engine = ScriptedEngine(renderer, delay_s=60)
    await engine.start()
    calls = [
        asyncio.create_task(engine.generate(prompt, parameters(renderer), time.monotonic() + 90))
        for prompt in PROMPTS[:5]
    ]
    await until(lambda: engine.calls_in_flight == 5)
    engine.die()
    await engine.start()
    assert engine.calls_in_flight == 0
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, EngineDead)
