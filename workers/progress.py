"""How far something is, on standard error: a moving line in a terminal, else plain lines now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from rich.console import Console
from rich.status import Status

# How often a moving line changes, in seconds.
_MOVING_S: Final = 0.5


class ProgressLine:
    """Shown for as long as the block lasts. `plain_s`: seconds between lines where nothing moves."""

    def __init__(self, console: Console, clock: Callable[[], float], *, plain_s: float) -> None:
        self._console, self._clock, self._plain_s = console, clock, plain_s
        self._status: Status | None = None
        self._last_s = clock()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("…", refresh_per_second=4)
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, sentence: str) -> None:
        """A sentence that stays."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def passed_s(self) -> float | None:
        """Seconds since something was shown; None when that was a moment ago."""
        passed = self._clock() - self._last_s
        return None if passed < (self._plain_s if self._status is None else _MOVING_S) else passed

    def show(self, line: str) -> None:
        """How far it is now."""
        self._last_s = self._clock()
        if self._status is not None:
            self._status.update(line)
        else:
            self.say(f"{line} …")
