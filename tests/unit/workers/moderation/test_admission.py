"""Where a backlog waits: little at the engine, a bounded window in the worker, and the rest in Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from tests.unit.workers.moderation.guard_world import Broker, GuardWorld, Worker, event_record

CALLS = 4
# As `guard_world.Worker` has it.
WINDOW_RECORDS = 100
BACKLOG = 400


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


class Watched(Worker):
    """Notes the most that was ever at the engine, read and not committed, and waiting before the guard."""

    most_calls = most_read = most_waiting = 0

    def look(self, budget: Any) -> None:
        committed = sum(position.offset for position in self.broker.positions.values())
        self.most_read = max(self.most_read, sum(self._next.values()) - committed)
        self.most_calls = max(self.most_calls, self.world.engine.calls_in_flight)
        self.most_waiting = max(self.most_waiting, budget.waiting)


async def test_the_budget_bounds_what_is_at_the_engine_and_the_window_what_is_read(
    checkpoint: Checkpoint,
) -> None:
    world = GuardWorld(checkpoint, delay_s=0.002, calls=CALLS, cache=False)
    await world.judge.start()
    records = [event_record(offset, f"message number {offset}") for offset in range(BACKLOG)]
    worker = Watched(world, Broker({0: records}), drain_s=60)
    budget = world.path._asking._budget
    left_in_kafka = 0
    async with asyncio.timeout(60):
        while not worker.broker.done:
            worker.look(budget)
            if budget.waiting:
                left_in_kafka = max(left_in_kafka, BACKLOG - worker._next[0])
            assert not worker.task.done()
            await asyncio.sleep(0)
    await worker.stop()
    # All seats are taken, and no call ever queues behind them in the engine.
    assert worker.most_calls == CALLS
    # What else is read waits in the worker, no more than the window has room for.
    assert 0 < worker.most_waiting <= WINDOW_RECORDS - CALLS
    assert worker.most_read <= WINDOW_RECORDS
    # And the rest is not read at all.
    assert left_in_kafka >= BACKLOG - WINDOW_RECORDS
    assert len(world.observer.decisions) == BACKLOG
    assert {decision.status for decision in world.observer.decisions} == {"judged"}
