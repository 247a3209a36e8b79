"""What the judge relies on, over every engine."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio

from guard.checkpoint import Checkpoint
from guard.errors import EngineDead, EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.scores import RawBand
from guard.serving.engine import MOST_LOGPROBS, Completion, Engine, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from schemas.policy import Category, Policy
from schemas.verdict import Verdict
from tests.fixtures_vllm_server import ServedEngine, VllmServer
from tests.waiting import until

# Far beyond any call here, on a busy machine too.
PATIENCE_S = 240.0
# Calls that are cancelled, in all and at a time.
STORM, WAVE = 1000, 100
# After how long without a sign of life the engines here count as hung.
HANG_S = 4.0


NOTHING, EVERYTHING = RawBand(0.5, 0.5), RawBand(0.0, math.inf)
POLICY = Policy(
    id="test", version="1", categories=(Category(code="C1", title="fraud", definition="scams; cheating;"),)
)

_FIRST_IDS = itertools.count()


class MortalEngine(Engine, Protocol):
    """An engine that tests can end and look into."""

    def die(self) -> None: ...
    def hang(self) -> None: ...
    async def busy(self) -> bool: ...


@dataclass
class Subject:
    """An engine under test; `slow` is one whose `long_call` takes far longer than the tests wait for it."""

    engine: Engine
    slow: MortalEngine
    pair: tuple[int, int]
    vocabulary_size: int
    max_model_len: int

    def prompt(self, number: int = 0) -> tuple[int, ...]:
        return tuple(10 + (number + i) % 200 for i in range(40))

    async def call(
        self, prompt: tuple[int, ...], max_tokens: int = 6, stops: tuple[int, ...] = ()
    ) -> Completion:
        parameters = EngineParameters(
            max_tokens=max_tokens, logprob_token_ids=self.pair, stop_token_ids=stops
        )
        return await self.engine.generate(prompt, parameters, time.monotonic() + PATIENCE_S)

    async def long_call(self, deadline_s: float) -> Completion:
        """A prompt of nearly the model's length that no cache has seen: a trained model may end at once."""
        parameters = EngineParameters(max_tokens=40, logprob_token_ids=self.pair)
        first = 10 + next(_FIRST_IDS) % 200
        prompt = (first, *(10 + i % 200 for i in range(self.max_model_len - 50)))
        return await self.slow.generate(prompt, parameters, deadline_s)


class EngineContract:
    """The suite; a subclass gives the `subject`."""

    async def test_a_completion_has_one_pair_of_log_probabilities_per_token(self, subject: Subject) -> None:
        completion = await subject.call(subject.prompt())
        assert 1 <= len(completion.token_ids) <= 6
        assert len(completion.verdict_logprobs) == len(completion.token_ids)
        for token, pair in zip(completion.token_ids, completion.verdict_logprobs, strict=True):
            assert 0 <= token < subject.vocabulary_size
            assert pair is not None
            assert all(math.isfinite(value) and value <= 0 for value in pair)
            assert math.fsum(math.exp(value) for value in pair) <= 1.0001

    async def test_log_probabilities_of_any_ids_come_in_the_order_asked_for(self, subject: Subject) -> None:
        """In one batch with calls that ask for other ids and for fewer."""
        many = tuple(dict.fromkeys((0, *subject.pair, *range(100, 100 + MOST_LOGPROBS - 3))))
        asked = [many, subject.pair, tuple(reversed(many)), many[:5], subject.pair[:1]]
        found = await asyncio.gather(*(self._logprobs(subject, wanted) for wanted in asked))
        for wanted, values in zip(asked, found, strict=True):
            assert len(values) == len(wanted)
            assert all(math.isfinite(value) and value <= 0 for value in values)
            assert math.fsum(map(math.exp, values)) <= 1.0001
        all_, pair, turned, first, one = found
        assert turned == pytest.approx(all_[::-1], abs=0.01)
        if not isinstance(subject.engine, ScriptedEngine):  # whose numbers are of what is asked
            assert first == pytest.approx(all_[:5], abs=0.01)
            assert pair == pytest.approx([all_[many.index(token)] for token in subject.pair], abs=0.01)
            assert one == pytest.approx(pair[:1], abs=0.01)

    async def _logprobs(self, subject: Subject, wanted: tuple[int, ...]) -> tuple[float, ...]:
        parameters = EngineParameters(max_tokens=1, logprob_token_ids=wanted)
        completion = await subject.engine.generate(
            subject.prompt(), parameters, time.monotonic() + PATIENCE_S
        )
        (values,) = completion.verdict_logprobs
        assert values is not None
        return values

    async def test_the_same_prompt_gets_the_same_answer(self, subject: Subject) -> None:
        first, second = await subject.call(subject.prompt()), await subject.call(subject.prompt())
        assert first.token_ids == second.token_ids
        for one, other in zip(first.verdict_logprobs, second.verdict_logprobs, strict=True):
            assert one == pytest.approx(other, abs=0.01)

    async def test_max_tokens_cuts(self, subject: Subject) -> None:
        completion = await subject.call(subject.prompt(), max_tokens=1)
        assert len(completion.token_ids) == 1
        assert completion.finish_reason == "length"

    async def test_a_stop_id_ends_the_completion_and_is_part_of_it(self, subject: Subject) -> None:
        free = await subject.call(subject.prompt())
        stop = free.token_ids[-1]
        completion = await subject.call(subject.prompt(), stops=(stop,))
        assert completion.finish_reason == "stop"
        assert completion.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]

    async def test_concurrent_calls_get_their_own_answers(self, subject: Subject) -> None:
        prompts = [subject.prompt(number) for number in range(12)]
        alone = [(await subject.call(prompt)).token_ids for prompt in prompts]
        together = await asyncio.gather(*(subject.call(prompt) for prompt in prompts))
        assert [completion.token_ids for completion in together] == alone

    async def test_a_deadline_that_has_passed_is_a_timeout(self, subject: Subject) -> None:
        with pytest.raises(EngineTimeout):
            await subject.long_call(time.monotonic() - 1)

    async def test_at_the_deadline_the_call_is_aborted(self, subject: Subject) -> None:
        with pytest.raises(EngineTimeout):
            await subject.long_call(time.monotonic() + 0.02)
        assert subject.slow.calls_in_flight == 0
        assert await subject.call(subject.prompt(3))

    async def test_a_call_of_a_cancelled_task_is_aborted(self, subject: Subject) -> None:
        task = asyncio.ensure_future(subject.long_call(time.monotonic() + PATIENCE_S))
        await until(lambda: subject.slow.calls_in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert subject.slow.calls_in_flight == 0
        assert await subject.call(subject.prompt(4))

    async def test_a_storm_of_cancellations_leaves_no_request_behind(self, subject: Subject) -> None:
        for _ in range(STORM // WAVE):
            calls = [
                asyncio.ensure_future(subject.long_call(time.monotonic() + PATIENCE_S)) for _ in range(WAVE)
            ]
            await until(lambda: subject.slow.calls_in_flight > 0)
            for call in calls:
                call.cancel()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, asyncio.CancelledError)
            assert subject.slow.calls_in_flight == 0
        await idle(subject.slow)
        assert await subject.call(subject.prompt(8))

    async def test_calls_past_their_deadlines_leave_no_request_behind(self, subject: Subject) -> None:
        calls = [subject.long_call(time.monotonic() + 0.05) for _ in range(WAVE)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, EngineTimeout)
        await idle(subject.slow)
        assert await subject.call(subject.prompt(9))

    async def test_ids_outside_the_vocabulary_fail_that_call_alone(self, subject: Subject) -> None:
        for prompt in ((), (-1,), (5, subject.vocabulary_size)):
            with pytest.raises(EngineFailed, match="expected 1 or more token ids"):
                await subject.call(prompt)
        assert subject.engine.alive
        assert await subject.call(subject.prompt(5))

    async def test_a_prompt_of_the_models_length_fails_that_call_alone(self, subject: Subject) -> None:
        with pytest.raises(EngineFailed, match="prompt tokens"):
            await subject.call((10,) * subject.max_model_len)
        assert subject.engine.alive
        assert await subject.call(subject.prompt(6))

    @pytest.mark.parametrize(("band", "ways"), [(NOTHING, {"fast"}), (EVERYTHING, {"fast", "think"})])
    async def test_a_judge_in_adaptive_thinks_within_the_band_alone(
        self,
        subject: Subject,
        served_checkpoint: Checkpoint,
        served_renderer: PromptRenderer,
        band: RawBand,
        ways: set[str],
    ) -> None:
        limits = JudgeLimits(max_model_len=subject.max_model_len, call_timeout_s=PATIENCE_S)
        judge = Judge(served_checkpoint, served_renderer, subject.engine, limits)
        turns = (Turn(role="user", text="tell me how to scam pensioners"),)
        asked = Question(policy=POLICY, turns=turns, mode="adaptive", uncertain=band)
        outcome = await judge.judge(asked)
        assert {step.mode for step in outcome.steps} == ways
        assert outcome.steps[0].completion_tokens == 1
        assert all(step.took_ms >= 0 for step in outcome.steps)
        if isinstance(outcome, Verdict):
            assert outcome.answered_in == ("think" if band is EVERYTHING else "fast")
            assert outcome.score is not None

    async def test_starting_twice_changes_nothing(self, subject: Subject) -> None:
        await subject.engine.start()
        assert subject.engine.alive
        assert await subject.call(subject.prompt(7))


class DeathContract:
    """What an engine that dies or hangs owes; each test ends it. A subclass gives the `mortal`, started."""

    async def test_a_death_while_idle_is_seen_and_the_engine_starts_again(self, mortal: Subject) -> None:
        before = await mortal.call(mortal.prompt())
        gone = asyncio.ensure_future(mortal.engine.gone())
        await asyncio.sleep(0)
        assert not gone.done()
        mortal.slow.die()
        await gone
        assert not mortal.engine.alive
        with pytest.raises(EngineDead):
            await mortal.call(mortal.prompt())
        await mortal.engine.start()
        after = await mortal.call(mortal.prompt())
        assert after.token_ids == before.token_ids
        assert (after.times is None) == (before.times is None)  # under trace it measures again

    async def test_a_death_ends_every_call_in_flight(self, mortal: Subject) -> None:
        calls = [asyncio.ensure_future(mortal.long_call(time.monotonic() + PATIENCE_S)) for _ in range(20)]
        await until(lambda: mortal.slow.calls_in_flight == len(calls))
        mortal.slow.die()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, EngineDead)
        await mortal.engine.gone()
        assert not mortal.engine.alive

    async def test_a_hang_ends_every_call_in_flight_and_the_engine(self, mortal: Subject) -> None:
        mortal.slow.hang()
        calls = [asyncio.ensure_future(mortal.long_call(time.monotonic() + PATIENCE_S)) for _ in range(20)]
        begun = time.monotonic()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, EngineDead)
        assert time.monotonic() - begun < PATIENCE_S / 2
        await mortal.engine.gone()
        assert not mortal.engine.alive

    async def test_a_call_whose_time_runs_out_before_the_hang_is_noticed_is_a_death(
        self, mortal: Subject
    ) -> None:
        mortal.slow.hang()
        with pytest.raises(EngineDead):
            await mortal.long_call(time.monotonic() + 0.1)
        await mortal.engine.gone()
        assert not mortal.engine.alive


async def idle(engine: MortalEngine) -> None:
    """Wait until it works on nothing."""
    while await engine.busy():  # noqa: ASYNC110 - a foreign process sets no event
        await asyncio.sleep(0)


class TestScriptedEngine(EngineContract, DeathContract):
    @pytest_asyncio.fixture
    async def mortal(
        self, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
    ) -> AsyncIterator[Subject]:
        length = served_checkpoint.max_model_len
        engine = ScriptedEngine(served_renderer, delay_s=0.3, max_model_len=length, hang_timeout_s=HANG_S / 4)
        await engine.start()
        yield subject_of(engine, engine, served_renderer, length)
        await engine.close()

    @pytest_asyncio.fixture
    async def subject(
        self, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
    ) -> AsyncIterator[Subject]:
        length = served_checkpoint.max_model_len
        quick = ScriptedEngine(served_renderer, max_model_len=length)
        slow = ScriptedEngine(served_renderer, delay_s=PATIENCE_S * 2, max_model_len=length)
        await quick.start()
        await slow.start()
        yield subject_of(quick, slow, served_renderer, length)
        await quick.close()
        await slow.close()


@pytest_asyncio.fixture(scope="module")
async def mortal_engine(served_checkpoint: Checkpoint) -> AsyncIterator[VllmEngine]:
    """An engine of its own for the tests that end it; not started."""
    options = VllmOptions(
        max_model_len=served_checkpoint.max_model_len, hang_timeout_s=HANG_S, call_times=True
    )
    engine = VllmEngine(served_checkpoint.path, options)
    yield engine
    await engine.close()


@pytest.mark.heavy
@pytest.mark.timeout(900)
class TestVllmEngine(EngineContract, DeathContract):
    @pytest_asyncio.fixture
    async def mortal(
        self,
        vllm_engine: VllmEngine,  # for its checks that vLLM is there
        mortal_engine: VllmEngine,
        served_checkpoint: Checkpoint,
        served_renderer: PromptRenderer,
    ) -> Subject:
        await mortal_engine.start()
        return subject_of(mortal_engine, mortal_engine, served_renderer, served_checkpoint.max_model_len)

    @pytest.fixture
    def subject(
        self, vllm_engine: VllmEngine, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
    ) -> Subject:
        return subject_of(vllm_engine, vllm_engine, served_renderer, served_checkpoint.max_model_len)


@pytest_asyncio.fixture(scope="module")
async def mortal_remote(
    mortal_server: VllmServer, served_checkpoint: Checkpoint
) -> AsyncIterator[ServedEngine]:
    """An engine over a server of its own for the tests that end it; not started."""
    engine = ServedEngine(mortal_server, served_checkpoint, hang_timeout_s=HANG_S)
    yield engine
    await engine.close()


@pytest_asyncio.fixture(scope="module")
async def remote_engine(
    vllm_server: VllmServer, served_checkpoint: Checkpoint
) -> AsyncIterator[ServedEngine]:
    engine = ServedEngine(vllm_server, served_checkpoint)
    await engine.start()
    yield engine
    await engine.close()


@pytest.mark.heavy
@pytest.mark.timeout(900)
class TestRemoteEngine(EngineContract, DeathContract):
    @pytest_asyncio.fixture
    async def mortal(
        self, mortal_remote: ServedEngine, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
    ) -> Subject:
        await mortal_remote.start()
        return subject_of(mortal_remote, mortal_remote, served_renderer, served_checkpoint.max_model_len)

    @pytest.fixture
    def subject(
        self, remote_engine: ServedEngine, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
    ) -> Subject:
        return subject_of(remote_engine, remote_engine, served_renderer, served_checkpoint.max_model_len)


def subject_of(engine: Engine, slow: MortalEngine, renderer: PromptRenderer, length: int) -> Subject:
    tokens = renderer.verdict_tokens
    return Subject(
        engine=engine,
        slow=slow,
        pair=(tokens.safe, tokens.unsafe),
        vocabulary_size=renderer.encoder.vocabulary_size,
        max_model_len=length,
    )
