from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from guard.errors import EngineDead, EngineFailed
from guard.serving import vllm_call
from guard.serving.engine import Completion, EngineParameters, EngineTimes
from guard.serving.vllm_call import complete, wanted_logprobs

SAFE, UNSAFE = 7, 9


def flat(*positions: dict[int, float]) -> SimpleNamespace:
    """Log-probabilities as vLLM gives them: the sampled token first, then those asked for."""
    ends, token_ids, values = [0], [], []
    for position in positions:
        token_ids += list(position)
        values += list(position.values())
        ends.append(len(token_ids))
    return SimpleNamespace(
        start_indices=ends[:-1], end_indices=ends[1:], token_ids=token_ids, logprobs=values
    )


def test_each_position_gives_the_pair_in_the_order_asked_for() -> None:
    logprobs = flat({3: -0.5, SAFE: -1.0, UNSAFE: -2.0}, {UNSAFE: -0.1, SAFE: -3.0})
    assert wanted_logprobs(logprobs, 2, (SAFE, UNSAFE)) == ((-1.0, -2.0), (-3.0, -0.1))


def test_any_number_of_ids_may_be_asked_for() -> None:
    logprobs = flat({3: -0.5, SAFE: -1.0, UNSAFE: -2.0, 4: -7.0}, {4: -0.1, UNSAFE: -3.0, SAFE: -4.0})
    assert wanted_logprobs(logprobs, 2, (4, SAFE, UNSAFE)) == ((-7.0, -1.0, -2.0), (-0.1, -4.0, -3.0))
    assert wanted_logprobs(logprobs, 2, (UNSAFE,)) == ((-2.0,), (-3.0,))


def test_a_position_that_lacks_one_of_them_has_no_pair() -> None:
    assert wanted_logprobs(flat({3: -0.5, SAFE: -1.0}), 1, (SAFE, UNSAFE)) == (None,)


def test_without_log_probabilities_no_position_has_a_pair() -> None:
    assert wanted_logprobs(None, 3, (SAFE, UNSAFE)) == (None, None, None)


class Vllm:
    """One call of vLLM: an output with the finish reason, or the error; `errored` when its process ended."""

    def __init__(
        self,
        finish: str = "stop",
        error: BaseException | None = None,
        errored: bool = False,
        cached: int | None = 0,
        stats: Any = None,
    ) -> None:
        self.finish, self.error, self.errored, self.cached = finish, error, errored, cached
        self.stats = stats

    async def generate(self, *_: object) -> AsyncIterator[SimpleNamespace]:
        if self.error is not None:
            raise self.error
        yield SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=[5], logprobs=None, finish_reason=self.finish)],
            num_cached_tokens=self.cached,
            metrics=self.stats,
        )


@pytest.fixture(autouse=True)
def vllm_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three names that a call takes from vLLM, without its imports."""

    class VLLMError(Exception):
        pass

    modules: dict[str, dict[str, Any]] = {
        "vllm.exceptions": {"VLLMError": VLLMError},
        "vllm.inputs": {"tokens_input": lambda ids: ids},
        "vllm.v1.engine.exceptions": {"EngineDeadError": type("EngineDeadError", (VLLMError,), {})},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for package in ("vllm", "vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setattr(vllm_call, "_sampling", lambda parameters: None)


async def call(vllm: Vllm) -> Completion:
    return await complete(vllm, (1,), EngineParameters(max_tokens=1, logprob_token_ids=(7, 9)), "1")


def vllm_error(kind: str = "VLLMError") -> Exception:
    module = "vllm.exceptions" if kind == "VLLMError" else "vllm.v1.engine.exceptions"
    error: Exception = getattr(sys.modules[module], kind)("no")
    return error


async def test_a_completion_comes_through() -> None:
    assert (await call(Vllm("length"))).token_ids == (5,)


@pytest.mark.parametrize(("told", "counted"), [(32, 32), (0, 0), (None, 0)])
async def test_a_completion_says_what_the_prefix_cache_held(told: int | None, counted: int) -> None:
    assert (await call(Vllm(cached=told))).cached_tokens == counted


def instants(queued: float, scheduled: float, first: float, last: float) -> SimpleNamespace:
    """As vLLM's core takes them; 0 where it takes none."""
    return SimpleNamespace(queued_ts=queued, scheduled_ts=scheduled, first_token_ts=first, last_token_ts=last)


async def test_the_phases_of_a_call_part_at_vllms_instants() -> None:
    found = (await call(Vllm(stats=instants(10.0, 10.5, 12.5, 15.5)))).times
    assert found == EngineTimes(queue_s=0.5, prefill_s=2.0, decode_s=3.0)


async def test_a_call_of_one_token_ends_with_its_first() -> None:
    found = (await call(Vllm(stats=instants(10.0, 10.0, 12.5, 12.5)))).times
    assert found == EngineTimes(queue_s=0.0, prefill_s=2.5, decode_s=0.0)


@pytest.mark.parametrize(
    "stats",
    [
        None,
        instants(0.0, 0.0, 0.0, 0.0),
        instants(0.0, 1.0, 2.0, 3.0),
        instants(10.0, 9.0, 11.0, 12.0),
        instants(10.0, 11.0, 0.0, 12.0),
        instants(10.0, 11.0, 12.0, 0.0),
    ],
)
async def test_instants_that_are_missing_or_out_of_order_are_no_phases(stats: Any) -> None:
    assert (await call(Vllm(stats=stats))).times is None


async def test_the_end_of_the_process_is_not_a_failed_call() -> None:
    with pytest.raises(EngineDead):
        await call(Vllm(error=vllm_error("EngineDeadError")))


async def test_any_error_of_a_call_after_the_end_of_the_process_is_that_end() -> None:
    with pytest.raises(EngineDead):
        await call(Vllm(error=vllm_error(), errored=True))
    with pytest.raises(EngineFailed, match="VLLMError"):
        await call(Vllm(error=vllm_error()))


async def test_a_socket_that_is_closed_under_a_call_cancels_nobody() -> None:
    with pytest.raises(EngineDead):
        await call(Vllm(error=asyncio.CancelledError()))


async def test_a_cancelled_caller_is_cancelled() -> None:
    class Waiting(Vllm):
        async def generate(self, *_: object) -> AsyncIterator[SimpleNamespace]:
            await asyncio.Event().wait()
            yield SimpleNamespace()

    task = asyncio.create_task(call(Waiting()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_vllm_gave_up_by_itself_is_its_end() -> None:
    with pytest.raises(EngineDead, match="is ending"):
        await call(Vllm("abort"))
    with pytest.raises(EngineFailed):
        await call(Vllm("error"))
