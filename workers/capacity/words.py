"""A plan as a table for people, as JSON, and as values for the chart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from workers.capacity.demand import Demand
from workers.capacity.figures import Figures
from workers.capacity.formulas import Plan

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_NAME_WIDTH: Final = 34


def lines(plan: Plan, demand: Demand, figures: Figures) -> Iterator[str]:
    """The table: what is needed, what it was counted from, and what to know of that."""
    guards = "in the workers" if demand.in_process else "servers"
    rows = [
        ("messages a second, peak", f"{plan.peak_per_second:,.0f}"),
        ("of these new to the guard", f"{plan.new_per_second:,.0f}"),
        ("workers", f"{plan.workers:,} ({demand.spare} spare)"),
        (f"guards ({guards})", f"{plan.guards:,} ({demand.spare} spare)"),
        ("GPUs", f"{plan.gpus:,}"),
        ("partitions of the events topic", f"{plan.partitions:,}"),
        ("Redis, maxmemory", f"{size(plan.redis_bytes)} for {plan.verdicts:,.0f} verdicts"),
        ("Kafka, events", size(plan.events_bytes)),
        ("Kafka, decisions", size(plan.decisions_bytes)),
        ("network at the peak", f"{size(plan.network_bytes_per_second)}/s"),
        ("after an hour of outage, level in", duration(plan.catch_up_s)),
        ("GPU hours a month", f"{plan.gpu_hours_a_month:,.0f}"),
    ]
    if plan.price_a_month is not None and plan.price_per_million is not None:
        rows.append(("price a month", f"{plan.price_a_month:,.2f}"))
        rows.append(("price of a million messages", f"{plan.price_per_million:,.2f}"))
    for name, value in rows:
        yield f"{name:<{_NAME_WIDTH}}  {value}"
    yield ""
    yield "counted with"
    yield f"  {plan.guard_seconds * 1000:,.3g} ms of a guard for a new decision, `{demand.mode}`"
    yield f"  {plan.worker_cpu_us:,.3g} µs of a core for an event"
    for one in figures.figures:
        yield f"  {one.name} = {one.value:g} {one.unit}, {one.source}"
    for remark in plan.remarks:
        yield f"note: {remark}"


def as_json(plan: Plan, demand: Demand, figures: Figures) -> dict[str, Any]:
    """Everything, for machines; a time without end is null."""
    found: dict[str, Any] = msgspec.to_builtins(plan)
    if not math.isfinite(plan.catch_up_s):
        found["catch_up_s"] = None
    return {
        "demand": msgspec.to_builtins(demand),
        "plan": found,
        "figures": msgspec.to_builtins(figures.figures),
    }


def chart_values(plan: Plan, demand: Demand) -> str:
    """Values for the chart that follow from the plan, as YAML."""
    values: dict[str, Any] = {
        "replicas": plan.workers,
        "settings": {
            "kafka": {
                "partitions": plan.partitions,
                "replication_factor": demand.copies,
                "min_partitions": plan.workers,
            },
            "cache": {"ttl_s": demand.ttl_s},
        },
    }
    if demand.in_process:
        values["settings"]["guard"] = {"tensor_parallel_size": demand.gpus_per_guard}
        values["image"] = {"variant": "gpu"}
        values["resources"] = {"limits": {"nvidia.com/gpu": demand.gpus_per_guard}}
    return str(yaml.safe_dump(values, sort_keys=False))


def size(count: float) -> str:
    """Bytes in the unit that reads best, rounded up to three digits.

    >>> size(1536)
    '1.5 KiB'
    """
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:,.3g} {_UNITS[unit]}" if count < 1000 else f"{count:,.0f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """For people.

    >>> duration(5400)
    '1.5 h'
    """
    if not math.isfinite(seconds):
        return "never"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
