from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from workers.logs import attend, change_level, configure_logging

MARKER = "mark-7f3a-of-a-hostile-text"


class Lines:
    """What the log has got so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def sentences(self) -> list[str]:
        return [line["event"] for line in self.all]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    root, ours = logging.getLogger(), logging.getLogger("rsafe")
    before = (root.handlers[:], root.level, ours.level)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging("info", "json")
    yield Lines(stream)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    structlog.reset_defaults()


def test_a_logger_that_was_used_before_follows_the_level(log: Lines) -> None:
    logger = structlog.get_logger("rsafe.worker")
    logger.debug("one")
    logger.info("two")
    change_level("debug")
    logger.debug("three")
    change_level("warning")
    logger.info("four")
    logger.warning("five")
    assert [one for one in log.sentences if one != "The log level changed."] == ["two", "three", "five"]


def test_a_change_of_level_is_told_whichever_way_it_goes(log: Lines) -> None:
    for level in ("debug", "error", "info"):
        change_level(level)
    assert [line["log_level"] for line in log.all] == ["debug", "error", "info"]


def test_libraries_stay_silent_at_debug_since_there_they_show_what_they_were_given(log: Lines) -> None:
    change_level("debug")
    logging.getLogger("vllm.engine").debug("prompt: %s", MARKER)
    logging.getLogger("redis").info("a connection")
    assert MARKER not in log.text
    assert "a connection" in log.sentences


def test_of_an_exception_the_name_and_the_places_are_shown(log: Lines) -> None:
    try:
        int(MARKER)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
        structlog.get_logger("rsafe.worker").exception("It failed.")
    for line in log.all:
        assert line["error"] == "ValueError"
        assert line["places"][0].startswith("test_logs.py:")
    assert len(log.all) == 2
    assert MARKER not in log.text


async def test_signals_change_the_level_and_set_it_back(log: Lines) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    attend(loop, "warning")
    try:
        for number, level in ((signal.SIGUSR1, logging.DEBUG), (signal.SIGUSR2, logging.WARNING)):
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                while logging.getLogger("rsafe").level != level:  # noqa: ASYNC110 - the signal's own turn
                    await asyncio.sleep(0)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
        loop.set_exception_handler(before)
    assert [line["log_level"] for line in log.all] == ["debug", "warning"]


async def test_an_error_in_a_task_that_nobody_waits_for_is_told_without_its_text(log: Lines) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    attend(loop, "info")
    try:
        loop.call_exception_handler(
            {"message": f"Task exception was never retrieved {MARKER}", "exception": ValueError(MARKER)}
        )
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
        loop.set_exception_handler(before)
    (line,) = log.all
    assert line["error"] == "ValueError"
    assert MARKER not in log.text
