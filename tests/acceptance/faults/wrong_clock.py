"""Runs `python -m workers` with a clock that is off: `wrong_clock.py SECONDS ARGUMENTS…`.

All that Python code reads with `time.time` is off, so every time that the worker compares or writes down is.
The client library for Kafka keeps the machine's clock.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from functools import partial


def main(offset_s: float) -> None:
    """Run the worker's command line with the arguments that are left."""
    time.time = partial(_later, time.time, offset_s)
    runpy.run_module("workers", run_name="__main__", alter_sys=True)


def _later(clock: Callable[[], float], offset_s: float) -> float:
    return clock() + offset_s


if __name__ == "__main__":
    main(float(sys.argv.pop(1)))
