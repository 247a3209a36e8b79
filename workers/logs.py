"""The log of the worker: one line each on standard error, and a level that can be changed while it runs.

- `SIGUSR1` sets the level to `debug`, `SIGUSR2` sets it back to what the settings say. A signal needs no port
  that somebody else could reach, and whoever may send it may end the worker as well.
- Libraries never write at `debug`, whatever the level: there they show what they were given.
- Of an exception its name and its places are shown, never its text, which may hold anything.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]

# Whose lines are ours: constant sentences with ids beside them.
OURS: Final = "rsafe"


def configure_logging(level: Level, form: Literal["json", "console"]) -> None:
    """Everything, libraries included, as one line each on standard error."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        _exceptions_by_name,
    ]
    last: Any = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.getLogger().handlers[:] = [handler]
    set_level(level)
    structlog.configure(
        # The level is asked for at every line: that of a filtering logger is fixed when it is made.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def set_level(level: Level) -> None:
    """Write lines of this level and above from now on; of libraries, none below `info`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger(OURS).setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))


def change_level(level: Level) -> None:
    """`set_level` in a running worker, told in the log before or after, where it is more talkative."""
    ours = logging.getLogger(OURS)
    if logging.getLevelNamesMapping()[level.upper()] < ours.level:
        set_level(level)
    structlog.get_logger("rsafe.worker").info("The log level changed.", log_level=level)
    set_level(level)


def attend(loop: asyncio.AbstractEventLoop, level: Level) -> None:
    """From now on `SIGUSR1` sets the level to debug and `SIGUSR2` back to `level`, and errors in tasks that
    nobody waits for are told by name: asyncio's own line shows their text."""
    loop.add_signal_handler(signal.SIGUSR1, change_level, "debug")
    loop.add_signal_handler(signal.SIGUSR2, change_level, level)
    loop.set_exception_handler(_lost_error)


def _lost_error(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    error = context.get("exception")
    name = type(error).__name__ if isinstance(error, BaseException) else "none"
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    structlog.get_logger("rsafe.worker").error(
        "The event loop reports an error that nobody waited for.", error=name, places=places(trace)
    )


def places(trace: TracebackType | None) -> list[str]:
    """Files and lines of a traceback, outermost first; no code and no values."""
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(trace)]


def _exceptions_by_name(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name and places of an exception instead of the exception, as libraries log them."""
    found = line.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        line["error"], line["places"] = type(error).__name__, places(error.__traceback__)
    return line
