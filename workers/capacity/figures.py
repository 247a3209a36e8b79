"""The measured figures, and what a caller puts in the place of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from workers.errors import UsageError

FILE: Final = Path(__file__).parent / "figures.yaml"
Name = Literal["hit_cpu_us", "miss_cpu_us", "event_bytes", "decision_bytes", "verdict_bytes", "think_share"]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
# Of bytes or µs: nothing measured is near to these; beyond them numbers overflow or become 0.
_LEAST: Final = 1e-6
_MOST: Final = 1e9
CurveName = Literal["fast", "think", "context"]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure. `source` is a file of benchmarks/results/, or says that the caller gave it."""

    name: Name
    value: float
    unit: str
    meaning: str
    source: str


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions a second against tokens; points in rising order of tokens, two or more."""

    name: CurveName
    meaning: str
    source: str
    points: tuple[tuple[float, float], ...]


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a plan counts with, each once."""

    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...]

    def value(self, name: Name) -> float:
        """The figure of this name."""
        return next(one.value for one in self.figures if one.name == name)

    def curve(self, name: CurveName) -> Curve:
        """The curve of this name."""
        return next(one for one in self.curves if one.name == name)

    def given(self, values: Mapping[str, float]) -> Figures:
        """With the caller's values. Raises `UsageError` for a name that is none, or a value out of range."""
        for name, value in values.items():
            if name not in NAMES:
                raise UsageError(
                    f"--figure {name}: there is no such figure; expected one of {', '.join(NAMES)}"
                )
            most = 1.0 if name == "think_share" else _MOST
            if not _LEAST <= value <= most:
                raise UsageError(
                    f"--figure {name}: expected a number above 0 ({_LEAST:g} at least) and at most "
                    f"{most:,.0f}, not {value:g}"
                )
        return msgspec.structs.replace(
            self,
            figures=tuple(
                msgspec.structs.replace(one, value=values[one.name], source="given by the caller")
                if one.name in values
                else one
                for one in self.figures
            ),
        )


class Seconds(NamedTuple):
    """Of a guard, for one decision."""

    value: float
    beyond: bool
    """Whether the tokens lie beyond what was measured, so that the last step is prolonged."""


def load_figures() -> Figures:
    """What this release measured."""
    return msgspec.yaml.decode(FILE.read_bytes(), type=Figures)


def seconds_at(points: Sequence[tuple[float, float]], tokens: float) -> Seconds:
    """Seconds a decision by a curve of decisions a second: straight lines between its points.

    Never fewer for more tokens: where a longer prompt was measured to be quicker, the slower figure counts
    for both. Below the first point its figure counts; beyond the last one the last step is prolonged.
    """
    slowest, levelled = 0.0, list[tuple[float, float]]()
    for at, per_second in points:
        slowest = max(slowest, 1 / per_second)
        levelled.append((at, slowest))
    if tokens <= levelled[0][0]:
        return Seconds(levelled[0][1], beyond=False)
    for (low, before), (high, after) in pairwise(levelled):
        if tokens <= high:
            return Seconds(before + (after - before) * (tokens - low) / (high - low), beyond=False)
    (low, before), (high, after) = levelled[-2:]
    return Seconds(after + (after - before) * (tokens - high) / (high - low), beyond=True)
