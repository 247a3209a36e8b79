"""Waiting for a condition or for a broker's answer, instead of sleeping for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException

from workers.adapters.kafka_errors import error_of, reaction

Answer = TypeVar("Answer")

# Imports and the first join on a busy machine, in seconds. A sentinel whose machine stood still for two
# seconds does nothing for thirty.
PATIENCE_S: Final = 90.0
_ASK_AGAIN_S: Final = 0.2


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of the condition."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds; the test's timeout is the bound."""
    while not condition():  # noqa: ASYNC110 - conditions of foreign objects set no event
        await asyncio.sleep(0)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """The broker's answer. Asked for again while it has none: a machine that stands still for some seconds,
    or a broker that lost its place meanwhile, is not what these tests are about."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if reaction(error_of(error)).stops or time.monotonic() > end:
                raise
        time.sleep(_ASK_AGAIN_S)
