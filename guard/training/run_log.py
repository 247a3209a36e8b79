"""How far a training run is, on standard error: a moving line in a terminal, else every line as it comes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

Log = Callable[[str], None]
"""Gets a line that says how far a stage is; it never holds the text of a message."""


class RunLog:
    """Shown for as long as the block lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._moving: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._moving = Progress(*columns, console=self._console, transient=True)
            self._moving.start()
            self._task = self._moving.add_task("…", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._moving is not None:
            self._moving.stop()

    def say(self, sentence: str) -> None:
        """A sentence that stays; the time of the moving line begins anew."""
        self._console.print(Text(sentence), soft_wrap=True)
        if self._moving is not None:
            self._moving.reset(self._task, description=sentence, total=None)

    def show(self, line: str) -> None:
        """How far the stage is now."""
        if self._moving is not None:
            self._moving.update(self._task, description=line)
        else:
            self._console.print(Text(line), soft_wrap=True)
