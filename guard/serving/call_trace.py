"""What a trace tells of the calls of one judgement: noted beside the way, where somebody asks for it.

It travels in a context variable, so that no signature between the worker and the engine's client knows of it;
a task that is started meanwhile sees it as well. Where nobody asks, a look at the variable is all it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import msgspec

from guard.serving.engine import EngineTimes
from schemas.verdict import Step


class TracedCall(msgspec.Struct, frozen=True):
    """One call of the engine that gave a completion; instants of the judge's clock, in seconds."""

    step: Step
    begun_s: float
    ended_s: float
    times: EngineTimes | None


class CallTrace:
    """The calls of one judgement, in the order in which they ended."""

    __slots__ = ("calls", "traceparent")

    def __init__(self, traceparent: str) -> None:
        """`traceparent`: W3C trace context, of which a server's own spans are children."""
        self.traceparent = traceparent
        self.calls: list[TracedCall] = []


_CURRENT: Final[ContextVar[CallTrace | None]] = ContextVar("rsafe_call_trace", default=None)


def current_trace() -> CallTrace | None:
    """Where to note a call that is made now; None: nowhere."""
    return _CURRENT.get()


@contextmanager
def noting(trace: CallTrace | None) -> Iterator[None]:
    """Note the calls that are made within in `trace`; None: nowhere."""
    token = _CURRENT.set(trace)
    try:
        yield
    finally:
        _CURRENT.reset(token)
