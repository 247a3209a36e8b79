"""A running vLLM: its calls, the sign of life of its process, and its end.

vLLM's core runs in a child process. Its death is seen at once, calls in flight or not. That it hangs is seen
by a question that the core answers between two steps: silence for longer than a step can take is a hang, and
the process is killed, so that a hang ends like a death, also for calls whose time ran out before.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any, Final

from guard.errors import EngineDead, EngineTimeout
from guard.serving.engine import Completion, EngineParameters
from guard.serving.vllm_call import complete

# How long vLLM may take to end its process before it is killed, in seconds.
_CLOSE_TIMEOUT_S: Final = 10.0
# How often the core is asked for a sign of life, in seconds; one such question takes a tenth of a ms.
_ASK_EVERY_S: Final = 1.0
# The wait for the answer is counted in so many pieces. When this process was stopped itself, or its loop was
# busy, the clock ran on alone: that costs one piece and not the whole patience.
_PIECES: Final = 10


class RunningVllm:
    """One asynchronous engine of vLLM, from loaded to let go of. One event loop."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm
        self._lost = False
        self._watch: asyncio.Task[None] | None = None
        self._calls: dict[asyncio.Timeout, asyncio.Event] = {}

    @property
    def alive(self) -> bool:
        return not self._lost and not self.llm.errored

    async def call(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, request_id: str, timeout_s: float
    ) -> Completion:
        """The completion. Raises `EngineTimeout`, `EngineFailed` or `EngineDead`; it is aborted then.

        Out of time, it is not yet known whether the core was slow or hangs: the next sign of life decides, or
        the watch, which waits no longer than the hang time-out and a second.
        """
        timeout, ended = asyncio.timeout(timeout_s), asyncio.Event()
        try:
            async with timeout:
                self._calls[timeout] = ended
                return await complete(self.llm, prompt_ids, parameters, request_id)
        except TimeoutError:
            if self.alive and await self._answers():
                raise EngineTimeout("no completion before the deadline; it was aborted") from None
            raise EngineDead("vLLM ended during the call") from None
        except EngineDead:
            self.kill()  # it may be about to end by itself, and refuses every call
            raise
        finally:
            self._calls.pop(timeout, None)
            ended.set()

    def begin_watch(self, hang_timeout_s: float) -> None:
        """From now on a death or a hang ends every call and `gone`."""
        self._watch = asyncio.create_task(self._keep_watch(hang_timeout_s))

    async def gone(self) -> None:
        """Returns when it cannot answer any more."""
        if self._watch is not None:
            await asyncio.wait([self._watch])

    async def _answers(self) -> bool:
        """Whether the core gives another sign of life; False once the watch has ended it."""
        if self._watch is None:
            return True
        sign = asyncio.ensure_future(self.llm.is_paused())
        try:
            await asyncio.wait([sign, self._watch], return_when=asyncio.FIRST_COMPLETED)
            if sign.done() and (sign.cancelled() or sign.exception() is not None):
                self.kill()  # as the watch would: dead, or about to end
        finally:
            sign.cancel()
        return self.alive

    def kill(self) -> None:
        """Its process ends at once, stopped or not."""
        self._lost = True
        for process in self.processes:
            process.kill()

    def stop(self) -> None:
        """Its process hangs from now on."""
        for process in self.processes:
            os.kill(process.pid, signal.SIGSTOP)

    @property
    def processes(self) -> list[Any]:
        manager = self.llm.engine_core.resources.engine_manager
        return [] if manager is None else [one for one in manager.processes if one.is_alive()]

    async def busy(self) -> bool:
        """Whether the core still works on anything, aborted calls included."""
        return bool(await self.llm.engine_core.call_utility_async("has_work"))

    async def let_go(self) -> None:
        """Ends its process and frees what it held. Calls in flight get `EngineDead`."""
        self._lost = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        ended = list(self._calls.values())
        self._end_calls()
        for event in ended:
            await event.wait()
        handler = self.llm.output_handler
        if handler is not None:
            handler.cancel()  # it would report the end of the process as a failure
            await asyncio.wait([handler])
        await asyncio.to_thread(shut_down, self.llm)
        await _release_sockets(self.llm.engine_core)

    async def _keep_watch(self, hang_timeout_s: float) -> None:
        try:
            await _silence(self.llm, hang_timeout_s)
        finally:
            if not self._lost:
                self.kill()
            self._end_calls()

    def _end_calls(self) -> None:
        now = asyncio.get_running_loop().time()
        for timeout in self._calls:
            if not timeout.expired():
                timeout.reschedule(now)


async def _silence(llm: Any, hang_timeout_s: float) -> None:
    """Returns when the core is dead, or has given no sign of life for so long."""
    dead = llm.output_handler
    while not dead.done():
        sign = asyncio.ensure_future(llm.is_paused())
        try:
            for _ in range(_PIECES):
                await asyncio.wait(
                    [sign, dead], timeout=hang_timeout_s / _PIECES, return_when=asyncio.FIRST_COMPLETED
                )
                if sign.done() or dead.done():
                    break
            if not sign.done() or sign.cancelled() or sign.exception() is not None:
                return  # hung, dead, or about to end
        finally:
            sign.cancel()
        await asyncio.wait([dead], timeout=min(_ASK_EVERY_S, hang_timeout_s))


async def _release_sockets(core: Any) -> None:
    """vLLM closes its sockets on the loop and leaves their contexts to the garbage collector."""
    for socket in tuple(core.ctx._sockets):
        socket.close(linger=0)
    await asyncio.to_thread(core.resources.ctx.destroy, linger=0)


def shut_down(llm: Any) -> None:
    """Ends vLLM's process; blocks meanwhile."""
    llm.shutdown(timeout=_CLOSE_TIMEOUT_S)
    # vLLM does it again when the object is collected, which at the end of the program fails noisily.
    llm.shutdown = lambda timeout=None: None  # noqa: ARG005
