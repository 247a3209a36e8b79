"""Step 4, ask guard: identical questions in flight share one judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from guard.errors import EngineDead, GuardError
from guard.prompt import Turn
from guard.scores import RawBand
from guard.serving.call_trace import CallTrace, noting
from guard.serving.question import Question
from schemas.event import Event
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict
from workers.moderation.outcome import Asked
from workers.ports import Guard

Subject = TypeVar("Subject")
Shared = TypeVar("Shared")


def question_of(asked: Asked) -> Question:
    """What is asked of an event; the cache key is of the same texts."""
    chosen = asked.chosen
    return question_about(asked.read, chosen.policy, chosen.uncertain.get(asked.read.message.role))


def question_about(read: Event, policy: Policy, uncertain: RawBand | None = None) -> Question:
    """The turns of an event as the guard reads them (`as_read`), the message last.

    `uncertain`: with `adaptive`, the fast scores at which it thinks.
    """
    turns = [Turn(role=turn.role, text=turn.text) for turn in read.context]
    turns.append(Turn(role=read.message.role, text=read.message.text))
    return Question(policy=policy, turns=tuple(turns), mode=policy.mode, uncertain=uncertain)


def deadline_ms(asked: Asked) -> float | None:
    """Until when an answer is of use (Unix ms), counted from the broker's timestamp; None: always."""
    allowed = asked.event.deadline_ms or asked.chosen.policy.deadline_ms
    return None if allowed is None else asked.record.timestamp_ms + allowed


async def ask_guard(question: Question, guard: Guard, trace: CallTrace | None = None) -> Verdict | Unjudged:
    """The guard's verdict; its calls are noted in `trace`.

    Raises `EngineDead` when the guard is down, and no other error of the guard.
    """
    try:
        with noting(trace):
            return await guard.judge(question)
    except EngineDead:
        raise
    except GuardError as error:
        # One question must not stop the stream for all others.
        return Unjudged(reason="engine_failed", detail=type(error).__name__)


class Flight(Generic[Subject, Shared]):
    """One judgement in flight. `subject` is what those who share it know of it."""

    __slots__ = ("key", "subject", "task", "waiters")

    def __init__(self, key: str, subject: Subject, task: asyncio.Task[Shared]) -> None:
        self.key, self.subject, self.task = key, subject, task
        self.waiters = 0


class SingleFlight(Generic[Subject, Shared]):
    """One task per key at a time; whoever asks for the same meanwhile gets its result."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[Subject, Shared]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def board(
        self,
        key: str,
        subject: Callable[[], Subject],
        begin: Callable[[Subject], Coroutine[Any, Any, Shared]],
    ) -> tuple[Flight[Subject, Shared], bool]:
        """The flight for a key, and whether it was there already. It is to be waited for in any case."""
        flight = self._flights.get(key)
        if flight is not None:
            return flight, True
        about = subject()
        flight = Flight(key, about, asyncio.create_task(begin(about)))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda task: self._landed(key, task))
        return flight, False

    async def wait(self, flight: Flight[Subject, Shared], timeout_s: float | None = None) -> Shared:
        """The result. Raises TimeoutError after `timeout_s`.

        The task is cancelled when the last who waits for it leaves.
        """
        flight.waiters += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                # Whoever asks from now on starts anew instead of joining what is being cancelled.
                if self._flights.get(flight.key) is flight:
                    del self._flights[flight.key]
                flight.task.cancel()

    def _landed(self, key: str, task: asyncio.Task[Shared]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # everybody may have left
