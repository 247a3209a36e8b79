"""From what is asked for and what was measured to a plan.

docs/operations/capacity.md explains each formula.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from workers.capacity.demand import Demand
from workers.capacity.figures import Figures, Seconds, seconds_at

HOURS_A_MONTH: Final = 730.0
# Tokens of the message in the prompts of the curves `fast` and `think`; more than these are like context.
MEASURED_MESSAGE_TOKENS: Final = 40
# Tokens of the prompt beside which the curve `context` grows: five categories and a message.
_BEFORE_CONTEXT: Final = 117.7
# Share of Redis's memory that verdicts take: the rest is for fragmentation and for connections.
_FILLED: Final = 0.8
# An outage of this length is what a backlog is counted for, in seconds.
_OUTAGE_S: Final = 3600.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed. Rates are a second, sizes bytes."""

    peak_per_second: float
    new_per_second: float
    """At the peak: decisions that the guard must make."""
    guard_seconds: float
    """Of one guard, for one new decision."""
    worker_cpu_us: float
    """Of one core, for one event."""
    workers: int
    guards: int
    """vLLM engines; with vLLM in the worker, as many as workers."""
    gpus: int
    partitions: int
    redis_bytes: float
    verdicts: float
    """In Redis at a time."""
    kafka_bytes: float
    """All copies of events and decisions together."""
    events_bytes: float
    decisions_bytes: float
    network_bytes_per_second: float
    """Between brokers and workers at the peak, as compressed; copies between brokers not counted."""
    catch_up_s: float
    """After an hour of outage at the average rate, with everything running at full load."""
    gpu_hours_a_month: float
    price_a_month: float | None
    price_per_million: float | None
    remarks: tuple[str, ...]
    """What a reader must know of the figures behind it."""


def make_plan(demand: Demand, figures: Figures) -> Plan:
    """The plan for a demand. More messages never need less of anything."""
    peak = demand.messages_per_second * demand.peak_factor
    new = peak * (1 - demand.hit_rate)
    guard, remarks = _guard_seconds(demand, figures)
    cpu_us = demand.hit_rate * figures.value("hit_cpu_us") + (1 - demand.hit_rate) * figures.value(
        "miss_cpu_us"
    )
    guards = _count(new * guard, demand.utilisation)
    workers = _count(peak * cpu_us / 1e6, demand.utilisation)
    if demand.in_process:
        workers = guards = max(workers, guards)
    workers, guards = workers + demand.spare, guards + demand.spare
    gpus = guards * demand.gpus_per_guard
    verdicts = demand.messages_per_second * (1 - demand.hit_rate) * demand.ttl_s
    stored = demand.messages_per_second * demand.copies
    events = stored * figures.value("event_bytes") * demand.events_retention_s
    decisions = stored * figures.value("decision_bytes") * demand.decisions_retention_s
    hours = gpus * HOURS_A_MONTH
    price = None if demand.price_per_gpu_hour is None else hours * demand.price_per_gpu_hour
    return Plan(
        peak_per_second=peak,
        new_per_second=new,
        guard_seconds=guard,
        worker_cpu_us=cpu_us,
        workers=workers,
        guards=guards,
        gpus=gpus,
        # A multiple of the workers, so that each has as many.
        partitions=workers * math.ceil(demand.growth),
        redis_bytes=verdicts * figures.value("verdict_bytes") / _FILLED,
        verdicts=verdicts,
        kafka_bytes=events + decisions,
        events_bytes=events,
        decisions_bytes=decisions,
        network_bytes_per_second=peak * (figures.value("event_bytes") + figures.value("decision_bytes")),
        catch_up_s=_catch_up_s(demand, workers / (cpu_us / 1e6), guards, guard),
        gpu_hours_a_month=hours,
        price_a_month=price,
        price_per_million=None
        if price is None
        else price / (demand.messages_per_second * HOURS_A_MONTH * 3600) * 1e6,
        remarks=remarks,
    )


def _count(load: float, utilisation: float) -> int:
    """How many carry a load, counted in whole ones that are busy all the time; 1 at least."""
    return max(1, math.ceil(load / utilisation))


def _guard_seconds(demand: Demand, figures: Figures) -> tuple[float, tuple[str, ...]]:
    """Of one guard, for one decision in the demand's mode; and remarks."""
    if demand.decisions_per_second_per_gpu is not None:
        return 1 / (demand.decisions_per_second_per_gpu * demand.gpus_per_guard), ()
    remarks: list[str] = []

    def way(name: str, per_gpu: float | None) -> float:
        if per_gpu is not None:
            return 1 / (per_gpu * demand.gpus_per_guard)
        found = _measured(demand, figures, name)
        remarks.append(
            f"the speed of a guard in `{name}` is that of the shipped checkpoint on two CPU cores, not of a "
            f"GPU: measure yours and give --{name}-per-second-per-gpu"
        )
        if found.beyond:
            remarks.append(
                f"prompts of `{name}` are longer than any that was measured; the last step is prolonged"
            )
        return found.value

    match demand.mode:
        case "fast":
            seconds = way("fast", demand.fast_per_second_per_gpu)
        case "think":
            seconds = way("think", demand.think_per_second_per_gpu)
        case "adaptive":
            fast = way("fast", demand.fast_per_second_per_gpu)
            seconds = fast + figures.value("think_share") * way("think", demand.think_per_second_per_gpu)
    return seconds, tuple(remarks)


def _measured(demand: Demand, figures: Figures, name: str) -> Seconds:
    """By the curve of a way, and what tokens beyond a short message add by the curve of context."""
    base = seconds_at(
        figures.curve("fast" if name == "fast" else "think").points,
        demand.policy_tokens + MEASURED_MESSAGE_TOKENS,
    )
    more = demand.context_tokens + max(0, demand.message_tokens - MEASURED_MESSAGE_TOKENS)
    without = seconds_at(figures.curve("fast").points, _BEFORE_CONTEXT).value
    points = ((_BEFORE_CONTEXT, 1 / without), *figures.curve("context").points)
    added = seconds_at(points, _BEFORE_CONTEXT + more)
    return Seconds(base.value + added.value - without, base.beyond or added.beyond)


def _catch_up_s(demand: Demand, workers_per_s: float, guards: int, guard_s: float) -> float:
    """How long a backlog of an hour takes, beside what comes meanwhile."""
    average, missing = demand.messages_per_second, 1 - demand.hit_rate
    guards_per_s = math.inf if missing == 0 else guards / guard_s / missing
    left = min(workers_per_s, guards_per_s) - average
    return math.inf if left <= 0 else average * _OUTAGE_S / left
