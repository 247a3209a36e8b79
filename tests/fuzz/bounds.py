"""What one input may take of time and memory. Over it, it is a failure of the decoder."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Of CPU time, for a megabyte: a sane decoder takes milliseconds. Busy neighbours do not count.
SLOW_S: Final = 1.0
# Then a loop is broken into.
_HANGS_S: Final = 10.0
# Address space that a decoder may take beyond what the process has: a hundred times the largest input.
_SPARE_BYTES: Final = 128 * 1024 * 1024


class TooSlowError(Exception):
    """An input took longer than it may."""


def timed(call: Callable[[bytes], object], data: bytes) -> float:
    """CPU seconds that the call took. Raises what it raises, and `TooSlowError`."""
    signal.setitimer(signal.ITIMER_PROF, _HANGS_S)
    started = time.thread_time()
    try:
        call(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.thread_time() - started
    if seconds > SLOW_S:
        raise TooSlowError(f"{seconds:.1f} s for {len(data)} bytes")
    return seconds


@contextmanager
def bounded() -> Iterator[None]:
    """Within, memory is limited, and a call that never ends is broken into."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    hard = before[1]
    wanted = _address_space() + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    handler = signal.signal(signal.SIGPROF, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak_bytes() -> int:
    """Most memory that the process had since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: expected VmHWM")


def forget_peak() -> None:
    """Count the peak anew from what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _interrupt(*_: object) -> None:
    raise TooSlowError(f"no end within {_HANGS_S:g} s of CPU time")
