"""What the judge asks of an engine: token ids in, token ids and the log-probabilities of chosen ones out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

# Seconds on a clock that only goes forward; deadlines are instants on the same clock.
Clock = Callable[[], float]

# As many ids as vLLM gives log-probabilities of in one call.
MOST_LOGPROBS: Final = 128


class EngineParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How one completion is made. Greedy unless `temperature` is above 0."""

    max_tokens: int
    """Longest completion; 1 or more."""
    logprob_token_ids: tuple[int, ...]
    """Ids whose log-probabilities are wanted at every position, 1 to `MOST_LOGPROBS` different ones: those
    that begin `safe` and `unsafe` at the decisive position, or those with which codes of categories go on."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the completion; the one that ended it is part of it."""
    temperature: float = 0.0


class EngineTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one call went, as the engine says, in seconds."""

    queue_s: float
    """Until it was first taken into a step."""
    prefill_s: float
    """From there to its first token: the prompt is read."""
    decode_s: float
    """From the first token to the last."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine answered."""

    token_ids: tuple[int, ...]
    verdict_logprobs: tuple[tuple[float, ...] | None, ...]
    """Per token, in the same order: natural log-probabilities, at its position, of the ids asked for; None
    where the engine does not give all of them."""
    finish_reason: str
    """`stop`: a stop id ended it; `length`: it was cut at `max_tokens` or at the model's length."""
    cached_tokens: int = 0
    """Tokens of the prompt that the engine had computed before (prefix caching) and did not compute again."""
    times: EngineTimes | None = None
    """Where its time went, where the engine is told to measure that."""


class Engine(Protocol):
    """Runs a model. Calls are concurrent; the engine batches them."""

    @property
    def name(self) -> str:
        """Stands in every decision; an engine without a model says so here."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def alive(self) -> bool:
        """Whether calls can be answered: started, not closed, not dead."""
        ...

    @property
    def calls_in_flight(self) -> int:
        """Calls that it works on or keeps waiting; 0 while it is not running."""
        ...

    async def start(self) -> None:
        """Ready when it returns; after a death, the same engine anew, once the old one's calls have ended.

        Raises `EngineNotReady` (`EngineKilled` when its process was ended meanwhile), or `EngineAbsent` when
        trying again is of no use.
        """
        ...

    async def gone(self) -> None:
        """Returns when a started engine cannot answer any more: dead, hung, or closed.

        That is seen without any call. An engine that hangs is ended first, so that its calls end too. Returns
        at once when the engine is not running.
        """
        ...

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        """The completion of one prompt, before `deadline_s` (an instant on the engine's clock).

        At the deadline, and when the caller is cancelled, the call is aborted in the engine. Raises
        `EngineTimeout`, `EngineFailed` (this call only) or `EngineDead` (every call). `EngineTimeout` says
        that the engine is alive: where it gives no sign of life at the deadline, the call waits until that
        is decided, no longer than a hang takes to be noticed.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Calls in flight get `EngineDead`. May be called twice."""
        ...
