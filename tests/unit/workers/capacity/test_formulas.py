"""From a demand to a plan."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.identifiers import Mode
from workers.capacity.demand import Demand
from workers.capacity.figures import load_figures
from workers.capacity.formulas import Plan, make_plan
from workers.errors import UsageError

FIGURES = load_figures().given(
    {"hit_cpu_us": 40, "miss_cpu_us": 200, "event_bytes": 300, "decision_bytes": 400, "verdict_bytes": 500}
)
DEMANDS = some.builds(
    Demand,
    messages_per_second=some.floats(0.1, 1e5),
    peak_factor=some.floats(1, 10),
    hit_rate=some.floats(0, 1),
    mode=some.sampled_from(get_args(Mode)),
    policy_tokens=some.integers(0, 3000),
    message_tokens=some.integers(0, 3000),
    context_tokens=some.integers(0, 3000),
    in_process=some.booleans(),
    gpus_per_guard=some.integers(1, 8),
    utilisation=some.floats(0.1, 1),
    spare=some.integers(0, 3),
    growth=some.floats(1, 5),
)
GROWING = ("workers", "guards", "gpus", "partitions", "redis_bytes", "kafka_bytes", "gpu_hours_a_month")


def plan(**wanted: Any) -> Plan:
    return make_plan(Demand(**{"messages_per_second": 100.0, **wanted}), FIGURES)


@given(demand=DEMANDS, factor=some.floats(1, 100))
def test_more_messages_never_need_less_of_anything(demand: Demand, factor: float) -> None:
    few = make_plan(demand, FIGURES)
    larger = msgspec.structs.replace(demand, messages_per_second=demand.messages_per_second * factor)
    many = make_plan(larger, FIGURES)
    for name in GROWING:
        assert getattr(few, name) <= getattr(many, name) * (1 + 1e-9), name


@given(demand=DEMANDS, hit_rate=some.floats(0, 1))
def test_more_hits_never_need_more_guards(demand: Demand, hit_rate: float) -> None:
    better = max(hit_rate, demand.hit_rate)
    found = make_plan(msgspec.structs.replace(demand, hit_rate=better, in_process=False), FIGURES)
    assert found.guards <= make_plan(msgspec.structs.replace(demand, in_process=False), FIGURES).guards


@given(demand=DEMANDS)
def test_the_peak_is_carried_within_the_utilisation_even_without_the_spare_ones(demand: Demand) -> None:
    found = make_plan(demand, FIGURES)
    workers, guards = found.workers - demand.spare, found.guards - demand.spare
    peak = found.peak_per_second
    assert peak * found.worker_cpu_us / 1e6 <= workers * demand.utilisation * (1 + 1e-9)
    assert found.new_per_second * found.guard_seconds <= guards * demand.utilisation * (1 + 1e-9)
    assert found.partitions % found.workers == 0
    assert found.partitions >= demand.growth * found.workers


def test_a_plan_by_hand() -> None:
    found = plan(
        messages_per_second=1000.0,
        peak_factor=3.0,
        hit_rate=0.5,
        decisions_per_second_per_gpu=100.0,
        utilisation=0.75,
        in_process=False,
        price_per_gpu_hour=2.0,
        ttl_s=1000,
        copies=2,
        events_retention_s=10.0,
        decisions_retention_s=20.0,
    )
    assert (found.peak_per_second, found.new_per_second) == (3000, 1500)
    assert found.guards == found.gpus == 20 + 1  # 1500 / 100 / 0.75
    assert found.workers == 1 + 1  # 3000 × 120 µs = 0.36 of a core
    assert found.partitions == 4
    assert found.verdicts == 500_000
    assert found.redis_bytes == 500_000 * 500 / 0.8
    assert found.kafka_bytes == 1000 * 2 * (300 * 10 + 400 * 20)
    assert found.price_a_month == 21 * 730 * 2
    assert found.price_per_million == pytest.approx(21 * 2 / 3600 / 1000 * 1e6)
    assert found.catch_up_s == pytest.approx(1000 * 3600 / (21 * 100 / 0.5 - 1000))
    assert found.remarks == ()


def test_vllm_in_the_worker_makes_as_many_workers_as_guards() -> None:
    found = plan(decisions_per_second_per_gpu=1.0)
    assert found.workers == found.guards == found.gpus


def test_adaptive_costs_the_fast_answer_and_a_share_of_the_thinking() -> None:
    speeds = {"fast_per_second_per_gpu": 100.0, "think_per_second_per_gpu": 10.0}
    share = FIGURES.value("think_share")
    assert plan(mode="adaptive", **speeds).guard_seconds == pytest.approx(0.01 + share * 0.1)


def test_a_guard_over_several_gpus_is_as_fast_as_they_are_together() -> None:
    found = plan(decisions_per_second_per_gpu=10.0, gpus_per_guard=4)
    assert found.guard_seconds == pytest.approx(1 / 40)
    assert found.gpus == 4 * found.guards


@pytest.mark.parametrize("name", ["policy_tokens", "message_tokens", "context_tokens"])
def test_longer_prompts_take_longer_and_the_reader_is_told_when_nobody_measured_them(name: str) -> None:
    short, long = plan(**{name: 50}), plan(**{name: 5000})
    assert short.guard_seconds < long.guard_seconds
    assert len(short.remarks) == 1
    assert any("longer than any" in remark for remark in long.remarks)


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        ({"messages_per_second": 0.0}, "--messages-per-second"),
        ({"messages_per_second": float("nan")}, "--messages-per-second"),
        ({"peak_factor": 0.5}, "--peak-factor"),
        ({"hit_rate": 1.1}, "--hit-rate"),
        ({"utilisation": 0.0}, "--utilisation"),
        ({"policy_tokens": -1}, "--policy-tokens"),
        ({"gpus_per_guard": 0}, "--gpus-per-guard"),
        ({"price_per_gpu_hour": 0.0}, "--price-per-gpu-hour"),
        # What overflows on the way, or is too long for a float.
        ({"messages_per_second": 1e-320}, "--messages-per-second"),
        ({"utilisation": 1e-320}, "--utilisation"),
        ({"decisions_per_second_per_gpu": 1e-320}, "--decisions-per-second-per-gpu"),
        ({"fast_per_second_per_gpu": 1e308}, "--fast-per-second-per-gpu"),
        ({"price_per_gpu_hour": 1e308}, "--price-per-gpu-hour"),
        ({"ttl_s": 10**400}, "--ttl-s"),
        ({"spare": 10**400}, "--spare"),
        ({"policy_tokens": -(10**400)}, "--policy-tokens"),
        (
            {"decisions_per_second_per_gpu": 1.0, "fast_per_second_per_gpu": 1.0},
            "--decisions-per-second-per-gpu: expected it alone",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_its_option(wanted: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=option):
        plan(**wanted)


def test_the_outermost_demand_has_a_finite_plan() -> None:
    demand = Demand(
        messages_per_second=1e7,
        peak_factor=1000,
        utilisation=0.01,
        decisions_per_second_per_gpu=1e-6,
        price_per_gpu_hour=1e12,
        ttl_s=31_536_000_000,
    )
    for value in (1e-6, 1e9):
        figures = FIGURES.given(
            dict.fromkeys(
                ("hit_cpu_us", "miss_cpu_us", "event_bytes", "decision_bytes", "verdict_bytes"), value
            )
        )
        found = msgspec.to_builtins(make_plan(demand, figures))
        numbers = {name: one for name, one in found.items() if isinstance(one, int | float)}
        assert [name for name, one in numbers.items() if not math.isfinite(one)] == []
