"""The figures of `rsafe plan` are those that were measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from workers.capacity.figures import NAMES, Curve, load_figures, seconds_at
from workers.errors import UsageError

RESULTS = Path(__file__).parents[4] / "benchmarks" / "results"
FIGURES = load_figures()
POINTS = some.lists(
    some.tuples(some.floats(1, 1e5), some.floats(0.1, 1e4)),
    min_size=2,
    max_size=8,
    unique_by=lambda point: point[0],
).map(sorted)


def middle(field: str, table: str) -> Callable[[dict[str, Any]], float]:
    """The median of a field over the rounds of one worker."""

    def read(content: dict[str, Any]) -> float:
        rounds = content[table]["1"]
        for name in field.split("."):
            rounds = [one[name] for one in rounds]
        return float(statistics.median(rounds))

    return read


def thought(content: dict[str, Any]) -> float:
    rounds = [one for one in content["rounds"] if one["mode"] == "adaptive"]
    return float(statistics.median(one["thought"] for one in rounds) / content["rows"])


# How each figure comes out of its file.
READ: dict[str, Callable[[dict[str, Any]], float]] = {
    "hit_cpu_us": middle("cpu_us", "known"),
    "miss_cpu_us": middle("cpu_us", "new"),
    "event_bytes": middle("stored_bytes.events", "known"),
    "decision_bytes": middle("stored_bytes.decisions", "known"),
    "verdict_bytes": middle("verdict_bytes", "new"),
    "think_share": thought,
}


def content_of(source: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / source).read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_that_of_its_source(name: str) -> None:
    (figure,) = [one for one in FIGURES.figures if one.name == name]
    assert figure.value > 0
    assert figure.value == pytest.approx(READ[name](content_of(figure.source)), rel=0.01)


@pytest.mark.parametrize("curve", FIGURES.curves, ids=lambda curve: curve.name)
def test_each_curve_is_that_of_its_source(curve: Curve) -> None:
    rows = [one for one in content_of(curve.source)["points"] if one["curve"] == curve.name and one["size"]]
    expected = [(one["prompt_tokens"], statistics.median(one["per_second"]["with"])) for one in rows]
    assert [tokens for tokens, _ in curve.points] == pytest.approx(
        [tokens for tokens, _ in expected], rel=0.01
    )
    assert [rate for _, rate in curve.points] == pytest.approx([rate for _, rate in expected], rel=0.01)


def test_figures_can_be_given_and_say_so() -> None:
    found = FIGURES.given({"event_bytes": 12.0})
    assert found.value("event_bytes") == 12
    assert {one.source for one in found.figures if one.name == "event_bytes"} == {"given by the caller"}


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"events_bytes": 1.0}, "no such figure"),
        ({"event_bytes": 0.0}, "above 0"),
        ({"event_bytes": float("inf")}, "above 0"),
        ({"miss_cpu_us": 1e308}, "at most"),
        ({"hit_cpu_us": 1e-320}, "at least"),
        ({"think_share": 1.5}, "at most 1"),
    ],
    ids=str,
)
def test_a_figure_that_cannot_be_meant_is_refused(values: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        FIGURES.given(values)


def test_between_two_points_the_line_is_straight() -> None:
    points = ((100.0, 100.0), (200.0, 50.0))
    assert seconds_at(points, 150).value == pytest.approx(0.015)
    assert seconds_at(points, 10) == (0.01, False)
    assert seconds_at(points, 300).value == pytest.approx(0.03)
    assert seconds_at(points, 300).beyond


@given(points=POINTS, tokens=some.floats(0, 2e5), more=some.floats(0, 1e5))
def test_more_tokens_never_take_less_time(
    points: list[tuple[float, float]], tokens: float, more: float
) -> None:
    few, many = seconds_at(points, tokens).value, seconds_at(points, tokens + more).value
    assert 0 < few <= many * (1 + 1e-9)
