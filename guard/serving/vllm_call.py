"""One call of vLLM: from token ids to a `Completion`, errors translated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from guard.errors import EngineDead, EngineFailed
from guard.serving.engine import Completion, EngineParameters, EngineTimes


async def complete(
    llm: Any, prompt_ids: Sequence[int], parameters: EngineParameters, request_id: str
) -> Completion:
    """The completion. Raises `EngineDead` or `EngineFailed`; cancelling it aborts the request.

    `EngineDead` also for a call that vLLM gave up by itself: it does so when it is told to end.
    """
    from vllm.exceptions import VLLMError
    from vllm.inputs import tokens_input
    from vllm.v1.engine.exceptions import EngineDeadError

    result = None
    try:
        prompt = tokens_input(list(prompt_ids))
        async for output in llm.generate(prompt, _sampling(parameters), request_id):
            result = output
    except EngineDeadError:
        raise EngineDead("the process of vLLM ended") from None
    except VLLMError as error:
        if llm.errored:  # a closed socket, say
            raise EngineDead("the process of vLLM ended") from None
        # Only the kind: vLLM's sentences may hold values of the request.
        raise EngineFailed(f"vLLM refused or failed the call: {type(error).__name__}") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling() == 0:  # nobody did: a socket was closed under the call
            raise EngineDead("the process of vLLM ended") from None
        raise
    if result is None:
        raise EngineFailed("vLLM ended the call without a completion")
    answer = result.outputs[0]
    if answer.finish_reason == "abort":
        raise EngineDead("vLLM is ending")
    if answer.finish_reason not in ("stop", "length"):
        raise EngineFailed("vLLM ended the call without a completion")
    return Completion(
        token_ids=tuple(answer.token_ids),
        verdict_logprobs=wanted_logprobs(
            answer.logprobs, len(answer.token_ids), parameters.logprob_token_ids
        ),
        finish_reason=answer.finish_reason,
        cached_tokens=result.num_cached_tokens or 0,
        times=_times(result.metrics),
    )


def _times(stats: Any) -> EngineTimes | None:
    """Where the time went, by the instants that vLLM's core took; None: it took none, or not all."""
    if stats is None:
        return None
    if not 0 < stats.queued_ts <= stats.scheduled_ts <= stats.first_token_ts <= stats.last_token_ts:
        return None
    return EngineTimes(
        queue_s=stats.scheduled_ts - stats.queued_ts,
        prefill_s=stats.first_token_ts - stats.scheduled_ts,
        decode_s=stats.last_token_ts - stats.first_token_ts,
    )


def _sampling(parameters: EngineParameters) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=parameters.max_tokens,
        temperature=parameters.temperature,
        stop_token_ids=list(parameters.stop_token_ids),
        logprob_token_ids=list(parameters.logprob_token_ids),
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # made for this call alone
    )


def wanted_logprobs(
    logprobs: Any, length: int, wanted: tuple[int, ...]
) -> tuple[tuple[float, ...] | None, ...]:
    """One entry per position, in the order wanted, from vLLM's flat form: slices of two lists."""
    if logprobs is None:
        return (None,) * length
    entries: list[tuple[float, ...] | None] = []
    for start, end in zip(logprobs.start_indices, logprobs.end_indices, strict=True):
        found = dict(zip(logprobs.token_ids[start:end], logprobs.logprobs[start:end], strict=True))
        known = all(token in found for token in wanted)
        entries.append(tuple([found[token] for token in wanted]) if known else None)
    return tuple(entries)
