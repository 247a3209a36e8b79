"""Whether a server is what decisions will say of it: asked before it gets calls, and when it returns.

What can be known from outside: its version, the name under which it serves the model (`rsafe serve-guard`
sets the weights digest), the length it reads, that it gives the log-probabilities we ask for, and that its
answer to a fixed prompt is that of the other servers. That its weights are those of the folder is the word of
its operator, given by that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from guard.serving.engine import EngineParameters
from guard.serving.remote_answer import (
    MOST_IDS,
    PATH,
    BadAnswer,
    most_bytes,
    read_completion,
    request_body,
)
from guard.serving.remote_endpoint import Broken, Endpoint, Unreachable

# Bytes of `/version` and of `/v1/models`, which are short.
_SHORT: Final = 262_144
# Mean difference of log-probabilities, in nats, up to which two answers are one. BF16 rounds logits of 16 to
# 32 by up to 0.06, other kernels and other batches to either side.
AGREEMENT: Final = 0.25
_PROMPT_TOKENS: Final = 16


Decoded = TypeVar("Decoded", bound=msgspec.Struct)


class Refused(Exception):
    """The server answers and is not what was expected: its operator, or ours, acts. One sentence."""


class NotYet(Exception):
    """The server is not ready, or nobody is there. One sentence."""


class OtherVersion(Refused):
    """It runs another vLLM than the decisions name."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a server must serve."""

    model: str
    max_model_len: int
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What the first server said; the others must say the same."""

    version: str
    logprobs: tuple[float, ...]


class _Version(msgspec.Struct):
    version: str


class _Card(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Card]


async def look_at(endpoint: Endpoint, expected: Expected, timeout_s: float) -> Reference:
    """What the server says of itself, all of it as expected. Raises `Refused` or `NotYet`.

    `timeout_s`: for all of its answers together.
    """
    try:
        # Generous: the first answer may compile kernels, and stands behind the calls of others.
        version = _decoded(_Version, await endpoint.get("/version", _SHORT, timeout_s)).version
        _check_models(_decoded(_Models, await endpoint.get("/v1/models", _SHORT, timeout_s)), expected)
        return Reference(version[:64], await _proof(endpoint, expected, timeout_s))
    except Unreachable as error:
        raise NotYet(str(error)) from None
    except Broken as error:
        raise NotYet(str(error)) from None
    except TimeoutError:
        raise NotYet(f"no answer within {timeout_s:g} s") from None


def compare(found: Reference, first: Reference) -> None:
    """Raises `OtherVersion` or `Refused` when two servers cannot both stand behind one engine's name."""
    if found.version != first.version:
        raise OtherVersion(f"it runs vLLM {found.version}; the decisions name {first.version}")
    distance = sum(abs(a - b) for a, b in zip(found.logprobs, first.logprobs, strict=True))
    if distance > AGREEMENT * len(first.logprobs):
        raise Refused("its answer to a fixed prompt is not that of the other servers: other weights?")


def _decoded(kind: type[Decoded], answer: tuple[int, bytes]) -> Decoded:
    status, content = answer
    _check_status(status)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError):
        raise Refused("it answers otherwise than a vLLM server does") from None


def _check_status(status: int) -> None:
    if status in (401, 403):
        raise Refused(f"it refuses our key (HTTP {status}); expected RSAFE_GUARD__ENDPOINT_API_KEY to fit")
    if status in (429, 502, 503, 504):
        raise NotYet(f"it is not ready (HTTP {status})")
    if status != 200:
        raise Refused(f"it answers otherwise than a vLLM server does (HTTP {status})")


def _check_models(models: _Models, expected: Expected) -> None:
    served = {card.id: card for card in models.data}
    if expected.model not in served:
        names = ", ".join(repr(name[:80]) for name in list(served)[:3]) or "none"
        raise Refused(
            f"it serves {names}; expected {expected.model!r}, which `rsafe serve-guard` sets, or the name in "
            "RSAFE_GUARD__ENDPOINT_MODEL"
        )
    length = served[expected.model].max_model_len
    if length is None or length < expected.max_model_len:
        raise Refused(f"it reads {length} tokens; expected {expected.max_model_len} or more")


async def _proof(endpoint: Endpoint, expected: Expected, timeout_s: float) -> tuple[float, ...]:
    """The log-probabilities of many ids behind a fixed prompt."""
    size = expected.vocabulary_size
    step = max(1, size // MOST_IDS)
    wanted = tuple(range(0, size, step))[:MOST_IDS]
    # As many as are ever asked for, so that a server that was started for fewer is seen here.
    asked = (wanted * MOST_IDS)[:MOST_IDS]
    parameters = EngineParameters(max_tokens=1, logprob_token_ids=asked)
    prompt = tuple((17 + 97 * number) % size for number in range(_PROMPT_TOKENS))
    body = request_body(prompt, parameters, expected.model)
    status, content = await endpoint.send(PATH, body, most_bytes(parameters), timeout_s)
    if status == 403 or status == 404:
        raise Refused(f"it has no token endpoint (HTTP {status}); expected `vllm serve --enable-scale-out`")
    if status == 400:
        raise Refused(
            f"it refuses a call for {MOST_IDS + 1} log-probabilities; expected `vllm serve --max-logprobs "
            f"{MOST_IDS + 1}`"
        )
    _check_status(status)
    try:
        answer = read_completion(
            content,
            parameters,
            prompt_tokens=len(prompt),
            vocabulary_size=size,
            model=expected.model,
        )
    except BadAnswer as error:
        raise Refused(f"its answer to a fixed prompt cannot be used: {error}") from None
    (values,) = answer.verdict_logprobs
    if values is None:
        raise Refused("it gives not all log-probabilities that are asked for")
    return values
