"""Many lines at a time, their results in the order of the lines, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from workers.lines.answer import Result
from workers.lines.read import Line, Source

# How far lines are read ahead of the oldest one without a result: one that takes long holds up nobody until
# so many behind it are answered, and what is held of a file has a bound.
_AHEAD_BYTES: Final = 67_108_864


class Answers(Protocol):
    async def result(self, line: Line) -> Result:
        """The line's result, whatever it holds."""
        ...


async def answer_lines(
    lines: Iterable[Line],
    source: Source,
    answers: Answers,
    write: Callable[[Line, Result], None],
    *,
    ahead: int,
) -> None:
    """Write the result of each of `lines`, then of each that the source still has, in their order.

    At most `ahead` lines are read beyond the oldest that waits for its result. Raises what `answers`, the
    source and `write` raise, and then, as when it is cancelled, the results that were not written are lost.
    """
    run = _Run(source, answers, ahead)
    try:
        run.begin(lines)
        while (started := await run.ordered.get()) is not None:
            line, task = started
            write(line, await task)
            run.give_back(line, task)
        await run.reading
    finally:
        await run.end()


class _Run:
    def __init__(self, source: Source, answers: Answers, ahead: int) -> None:
        self._source, self._answers, self._ahead = source, answers, ahead
        # Unbounded, for its bound is in `_room`.
        self.ordered: asyncio.Queue[tuple[Line, asyncio.Task[Result]] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Result]] = set()
        self._lines = self._bytes = 0
        self._freed = asyncio.Event()

    def begin(self, lines: Iterable[Line]) -> None:
        self.reading = asyncio.create_task(self._read(lines))
        self.reading.add_done_callback(lambda _: self.ordered.put_nowait(None))

    def give_back(self, line: Line, task: asyncio.Task[Result]) -> None:
        """The line's result is written."""
        self._tasks.remove(task)
        self._lines -= 1
        self._bytes -= _held(line)
        self._freed.set()

    async def end(self) -> None:
        """Nothing goes on after it."""
        self._source.stop()
        waiting = [self.reading, *self._tasks]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _read(self, lines: Iterable[Line]) -> None:
        while True:
            for line in lines:
                await self._room(_held(line))
                task = asyncio.create_task(self._answers.result(line))
                self._tasks.add(task)
                self.ordered.put_nowait((line, task))
            # In a thread: a pipe gives its lines when it likes.
            lines = await asyncio.to_thread(self._source.more)
            if not lines:
                return

    async def _room(self, size: int) -> None:
        while self._lines and (self._lines >= self._ahead or self._bytes + size > _AHEAD_BYTES):
            self._freed.clear()
            await self._freed.wait()
        self._lines += 1
        self._bytes += size


def _held(line: Line) -> int:
    return 0 if line.value is None else len(line.value)
