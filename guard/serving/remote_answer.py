"""What a vLLM server is asked over HTTP, and what its answer holds: `/inference/v1/generate`, tokens alone.

The server (vLLM 0.32) takes `logprob_token_ids`, so that log-probabilities are those of the ids asked for,
exactly. It gives them as a list of which it sends `logprobs` entries, the sampled token first; hence one
entry more is asked for than there are ids, and at most `MOST_IDS` ids at a time. Whatever comes back is
checked: nobody knows what stands between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from guard.serving.engine import MOST_LOGPROBS, Completion, EngineParameters

PATH: Final = "/inference/v1/generate"
# One place of the list is the sampled token's.
MOST_IDS: Final = MOST_LOGPROBS - 1
# What the server sends for a log-probability of minus infinity, and for one that is no number.
_UNKNOWN: Final = -9999.0
# Above 0 by rounding alone.
_ROUNDING: Final = 1e-3
# Bytes of an answer: for one log-probability, and for all that is not one.
_ENTRY_BYTES, _HEAD_BYTES = 160, 65_536


class BadAnswer(Exception):
    """An answer that is none. One sentence that repeats nothing of it."""


class _Top(msgspec.Struct):
    token_id: int
    logprob: float


class _Position(msgspec.Struct):
    token_id: int
    top_logprobs: list[_Top] = []


class _Logprobs(msgspec.Struct):
    content: list[_Position] | None = None


class _Choice(msgspec.Struct):
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


def request_body(prompt_ids: Sequence[int], parameters: EngineParameters, model: str) -> bytes:
    """The request, as JSON. At most `MOST_IDS` ids may be asked for."""
    wanted = parameters.logprob_token_ids
    padded = [*wanted, wanted[-1]]
    return msgspec.json.encode(
        {
            "model": model,
            "token_ids": list(prompt_ids),
            "sampling_params": {
                "max_tokens": parameters.max_tokens,
                "temperature": parameters.temperature,
                # Our stop ids alone end it, whatever the server read in the model's folder.
                "stop_token_ids": list(parameters.stop_token_ids),
                "ignore_eos": True,
                "logprob_token_ids": padded,
                "logprobs": len(padded),
                "detokenize": False,
            },
        }
    )


def most_bytes(parameters: EngineParameters) -> int:
    """How long an answer can be; what is longer is not read."""
    return _HEAD_BYTES + parameters.max_tokens * (len(parameters.logprob_token_ids) + 3) * _ENTRY_BYTES


def read_completion(
    data: bytes, parameters: EngineParameters, *, prompt_tokens: int, vocabulary_size: int, model: str
) -> Completion:
    """The completion in an answer. Raises `BadAnswer` for anything that cannot be one of this request."""
    try:
        answer = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise BadAnswer("the answer is not what vLLM's token endpoint sends") from None
    if answer.model != model:
        raise BadAnswer("the answer is of another model")
    if len(answer.choices) != 1:
        raise BadAnswer("expected one completion")
    choice = answer.choices[0]
    ids = tuple(choice.token_ids or ())
    if not 1 <= len(ids) <= parameters.max_tokens:
        raise BadAnswer(f"expected 1 to {parameters.max_tokens} tokens")
    if min(ids) < 0 or max(ids) >= vocabulary_size:
        raise BadAnswer("an id outside the vocabulary")
    if choice.finish_reason not in ("stop", "length"):
        raise BadAnswer("the server gave the call up")
    if choice.finish_reason == "stop" and ids[-1] not in parameters.stop_token_ids:
        raise BadAnswer("it stopped at no stop id")
    details = answer.usage.prompt_tokens_details if answer.usage is not None else None
    cached = details.cached_tokens if details is not None else None
    return Completion(
        token_ids=ids,
        verdict_logprobs=_logprobs(choice.logprobs, ids, parameters.logprob_token_ids),
        finish_reason=choice.finish_reason,
        cached_tokens=min(max(cached or 0, 0), prompt_tokens),
    )


def _logprobs(
    found: _Logprobs | None, ids: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[tuple[float, ...] | None, ...]:
    content = (found.content if found is not None else None) or ()
    if len(content) != len(ids):
        raise BadAnswer("expected log-probabilities for every token")
    entries: list[tuple[float, ...] | None] = []
    for token, position in zip(ids, content, strict=True):
        if position.token_id != token:
            raise BadAnswer("log-probabilities of another token")
        values = {top.token_id: top.logprob for top in position.top_logprobs}
        if any(not math.isfinite(value) or value > _ROUNDING for value in values.values()):
            raise BadAnswer("a log-probability above 0")
        chosen = [values.get(one, _UNKNOWN) for one in wanted]
        entries.append(tuple(min(0.0, value) for value in chosen) if min(chosen) > _UNKNOWN else None)
    return tuple(entries)


def merged(one: Completion, other: Completion) -> Completion:
    """`one` with the log-probabilities of both behind each other.

    A position of which the other answer knows nothing, since it went another way before, has none.
    """
    same = 0
    for mine, theirs in zip(one.token_ids, other.token_ids, strict=False):
        same += 1  # what both read before this position is the same; that they then differ is no matter
        if mine != theirs:
            break
    pairs = zip(one.verdict_logprobs[:same], other.verdict_logprobs[:same], strict=True)
    entries = [None if a is None or b is None else a + b for a, b in pairs]
    return msgspec.structs.replace(one, verdict_logprobs=(*entries, *([None] * (len(one.token_ids) - same))))
