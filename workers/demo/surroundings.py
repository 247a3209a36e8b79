"""What the demo and its story stand on: servers, signals, and a word on what is under way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from rich.console import Console
from rich.status import Status

from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.settings import Settings

# How often an unattended run says that it still waits, in seconds.
_SAY_EVERY_S: Final = 15.0


class Progress:
    """Says what is under way: a moving line in a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._said_at = 0.0
        self._sentence = ""

    def say(self, sentence: str) -> None:
        """A new step."""
        self._sentence, self._said_at = sentence, 0.0
        self._console.print(f"→ {sentence}", markup=False, highlight=False, soft_wrap=True)

    def wait(self, seconds: float) -> None:
        """The step takes; `seconds` so far."""
        if self._status is not None:
            self._status.update(f"{seconds:.0f} s")
        elif seconds - self._said_at >= _SAY_EVERY_S:
            self._said_at = seconds
            self._console.print(f"  … {seconds:.0f} s", highlight=False)

    def stop(self) -> None:
        """Leave the screen to others."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("…")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def stack_of(given: Settings, say: Callable[[str], None]) -> Iterator[Addresses]:
    """Addresses that were given, and parts of our own for the others."""
    kafka = given.kafka.bootstrap_servers if "bootstrap_servers" in given.kafka.model_fields_set else ""
    existing = Addresses(bootstrap_servers=kafka, redis_url=given.redis.url.get_secret_value())
    say("starting Kafka and Redis; the first time Kafka is fetched")
    with LocalStack(ephemeral=True, existing=existing, progress=say) as stack:
        yield stack.addresses


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, so that nothing is left running."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
