"""Every row of the fault matrix: its fault, its settings, how often the full run repeats it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.acceptance.faults import broker_faults, engine_faults, redis_faults, worker_faults
from tests.acceptance.faults.row import Row
from workers.settings import FAULTS_VARIABLE, FAULTS_WORD

_HOOKS: Final = {FAULTS_VARIABLE: FAULTS_WORD}
# A worker that is started again under the name of the one before takes its partitions at once.
_STATIC: Final = {"RSAFE_KAFKA__GROUP_INSTANCE_ID": "the-only-one"}
_FREEZE_S: Final = 20.0
_KIP_848: Final = {"RSAFE_KAFKA__GROUP_PROTOCOL": "consumer"}
# Some ten events a second is what vLLM judges on two cores; after a minute of absence it must catch up.
_VLLM_RATE_PER_S: Final = 2.0
_VLLM: Final = {**_HOOKS, "RSAFE_GUARD__HANG_TIMEOUT_MS": "8000", "RSAFE_GUARD__CALL_TIMEOUT_MS": "60000"}
_VLLM_PATIENCE_S: Final = 400.0
# Ten minutes: no event of a repeat waits for so long, and an hour of error breaks it.
_DEADLINE_MS: Final = 600_000
# Before the first outcome nobody knows that the clock is ahead: the first that seems late is decided so.
_FIRST_LATE: Final = {"late": 1}
# The shipped checkpoint is tiny, and sometimes its answers do not follow the grammar. Nothing else may
# leave an event unjudged: all policies hold.
_TINY: Final = {"unparseable": None}

_WORKER: Final = (
    Row("worker-killed", "worker: kill −9 at random", worker_faults.killed_at_random, 50, windows=1),
    Row(
        "worker-killed-slow-head",
        "worker: kill −9 with a slow judgement at the head of a partition",
        worker_faults.killed_with_a_slow_head,
        50,
        settings={**_HOOKS, **_STATIC},
        windows=1,
    ),
    Row(
        "worker-killed-before-commit",
        "worker: kill −9 between delivery and commit",
        worker_faults.killed_before_the_commit,
        50,
        settings={**_STATIC, "RSAFE_STREAM__COMMIT_INTERVAL_MS": "60000"},
        windows=1,
    ),
    Row(
        "worker-killed-in-rebalance",
        "worker: kill −9 during a rebalance",
        worker_faults.killed_during_a_rebalance,
        50,
        windows=1,
    ),
    Row("worker-terminated", "worker: SIGTERM under load", worker_faults.terminated, 20),
    Row(
        "workers-join-and-leave",
        "two workers join and leave, classic protocol",
        worker_faults.joined_and_left,
        20,
    ),
    Row(
        "workers-join-and-leave-kip-848",
        "two workers join and leave, KIP-848",
        worker_faults.joined_and_left,
        20,
        settings=_KIP_848,
    ),
)
_BROKER: Final = (
    Row(
        "broker-killed", "broker: kill −9 and restart", broker_faults.killed, 10, windows=1, patience_s=180.0
    ),
    Row(
        "broker-frozen",
        "broker: SIGSTOP for 20 s",
        broker_faults.frozen(_FREEZE_S),
        10,
        windows=1,
        patience_s=180.0,
    ),
)
_REDIS: Final = (
    Row("redis-killed", "Redis: kill −9 and restart", redis_faults.killed, 5),
    Row("redis-frozen", "Redis: SIGSTOP for 20 s", redis_faults.frozen(_FREEZE_S), 5),
    Row("redis-out-of-memory", "Redis: out of memory", redis_faults.out_of_memory, 5),
    Row("redis-flushed", "Redis: FLUSHALL", redis_faults.flushed, 5),
    Row("redis-password-changed", "Redis: password changed midway", redis_faults.password_changed, 5),
    Row("redis-garbage", "Redis: values of garbage and of another version", redis_faults.garbage, 5),
)
_ENGINE: Final = tuple(
    Row(
        name,
        title,
        fault,
        10,
        settings=_VLLM,
        engine="vllm",
        rate_per_s=_VLLM_RATE_PER_S,
        unjudged=_TINY,
        patience_s=_VLLM_PATIENCE_S,
    )
    for name, title, fault in (
        ("engine-killed", "vLLM's engine process: kill −9", engine_faults.killed),
        ("engine-hung", "vLLM's engine process: hung (SIGSTOP)", engine_faults.hung),
        (
            "engine-killed-by-event",
            "an event that kills the engine each time",
            engine_faults.killed_by_an_event,
        ),
    )
)
_SURROUNDINGS: Final = (
    Row(
        "output-refuses",
        "output topic refuses a decision as too large",
        broker_faults.refuses_a_decision,
        3,
    ),
    Row(
        "clock-ahead",
        "worker's clock an hour ahead",
        worker_faults.with_a_wrong_clock(1.0),
        3,
        deadline_ms=_DEADLINE_MS,
        unjudged=_FIRST_LATE,
    ),
    Row(
        "clock-behind",
        "worker's clock an hour behind",
        worker_faults.with_a_wrong_clock(-1.0),
        3,
        deadline_ms=_DEADLINE_MS,
    ),
    Row(
        "log-not-writable", "log cannot be written (full, read-only, closed)", worker_faults.without_a_log, 3
    ),
    Row(
        "only-malformed",
        "100 % malformed input for 60 s",
        worker_faults.only_malformed(60.0, 5.0),
        1,
        rate_per_s=200.0,
        malformed_only=True,
    ),
    Row(
        "output-deleted",
        "output topic deleted while running (exit 4, then made anew)",
        broker_faults.output_deleted,
        3,
        settings={"RSAFE_KAFKA__DELIVERY_TIMEOUT_MS": "20000"},
        windows=1,
        patience_s=120.0,
    ),
)


# Where the moment that the fault waits for is another one.
_IN_TRANSACTIONS: Final = {
    "worker-killed-slow-head": worker_faults.killed_with_a_slow_head_in_transactions,
    "worker-killed-before-commit": worker_faults.killed_in_a_transaction,
}


def _exactly_once(row: Row) -> Row:
    """The row again, in transactions: nothing double for a reader of committed records."""
    settings = {name: value for name, value in row.settings.items() if "COMMIT_INTERVAL" not in name}
    return replace(
        row,
        name=f"{row.name}-exactly-once",
        title=f"{row.title}, exactly-once",
        settings=settings,
        fault=_IN_TRANSACTIONS.get(row.name, row.fault),
        delivery="exactly-once",
        windows=0,
    )


def _steady(row: Row) -> Row:
    """Where nothing may be decided twice, a machine that stands still for some seconds is not the fault: it
    must not cost the worker its partitions."""
    if row.windows:
        return row
    return replace(row, settings={**row.settings, "RSAFE_KAFKA__SESSION_TIMEOUT_MS": "45000"})


_ONCE: Final = (*_WORKER, *_BROKER, *_REDIS, *_ENGINE, *_SURROUNDINGS)
_TWICE: Final = tuple(_exactly_once(row) for row in (*_WORKER, *_BROKER))

ROWS: Final[tuple[Row, ...]] = (*map(_steady, _ONCE), *_TWICE)
"""In the order of the report. The one that deletes a topic stands behind those that share a site with it."""


def row_of(name: str) -> Row:
    """The row of that name. Raises KeyError."""
    return {row.name: row for row in ROWS}[name]
