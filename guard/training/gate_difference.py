"""Two guards on the same rows: how much more the one misses or refuses, with the paired bootstrap.

Rows are matched by id. Draws take the same groups for both, so that what is hard for both cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from guard.training.bootstrap import Array, Groups, draw_weights, group_numbers, interval
from guard.training.measured_rows import MeasuredRow, by_suite
from guard.training.suite_report import sources_of, suite_seed
from guard.training.suites import MACRO

Side = Literal["misses", "over_refusals", "pairs"]
"""Unsafe rows that are not found, safe rows that are not let pass, pairs of which not both rows are right."""
SIDES: Final[tuple[Side, ...]] = ("misses", "over_refusals", "pairs")
# Beyond so many groups that differ the normal distribution is as good as the sum, and quicker.
_EXACT_UP_TO: Final = 1000
_WHO: Final = ("challenger", "champion")


class NotComparable(Exception):
    """The two were not measured on the same rows of a suite."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Shares of the rows of one side that are wrong, and their difference in each draw (NaN: undefined).

    `centre` and `error` are those of Agresti and Min (2005), "Simple improved confidence intervals for
    comparing matched proportions": half a group more for each of the four outcomes. A bootstrap of a few
    groups that all say the same has no width; this one has. `worse` and `better` count groups that differ;
    None for a mean over suites, of which many groups of a large one say nothing of a small one.
    """

    challenger: float
    champion: float
    draws: Array
    centre: float
    error: float
    worse: int | None
    better: int | None

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the difference: the wider one of both at either end.

        It holds zero unless the exact sign test of the groups that differ (McNemar's) excludes it as well,
        where there are counts of them.
        """
        low, high = interval(self.draws, confidence)
        tail = (1.0 - confidence) / 2
        width = NormalDist().inv_cdf(1.0 - tail) * self.error
        low, high = min(low, self.centre - width), max(high, self.centre + width)
        if self.worse is None or self.better is None:
            return low, high
        low = low if _sign_test(self.worse, self.better) <= tail else min(low, 0.0)
        high = high if _sign_test(self.better, self.worse) <= tail else max(high, 0.0)
        return low, high


class Sides:
    """The rows of both by mode and suite."""

    def __init__(
        self, challenger: Sequence[MeasuredRow], champion: Sequence[MeasuredRow], draws: int, seed: int
    ) -> None:
        self._rows = (challenger, champion)
        self._by_mode: dict[str, tuple[dict[str, list[MeasuredRow]], ...]] = {}
        self.draws = draws
        self.seed = seed

    def suites(self, mode: str) -> set[str]:
        """Suites that either has in a mode, the mean over real sources among them."""
        names = {name for suites in self._suites(mode) for name in suites}
        return names | {MACRO} if sources_of(names) else names

    def rows(self, mode: str, suite: str) -> tuple[list[MeasuredRow], list[MeasuredRow]]:
        """The rows of both in one order. Raises `NotComparable` when they are not the same rows."""
        found = [suites.get(suite) for suites in self._suites(mode)]
        for who, rows in zip(_WHO, found, strict=True):
            if rows is None:
                raise NotComparable(f"the {who} was not measured on this suite")
        challenger, champion = ({row.id: row for row in rows or ()} for rows in found)
        if challenger.keys() != champion.keys():
            raise NotComparable("challenger and champion were measured on other rows; measure both alike")
        for name, row in challenger.items():
            if row.unsafe != champion[name].unsafe:
                raise NotComparable(f"row {name} has another label in the two reports; measure both alike")
        return list(challenger.values()), [champion[name] for name in challenger]

    def _suites(self, mode: str) -> tuple[dict[str, list[MeasuredRow]], ...]:
        if mode not in self._by_mode:
            self._by_mode[mode] = tuple(
                by_suite(row for row in rows if mode in row.replies) for rows in self._rows
            )
        return self._by_mode[mode]


def compare(sides: Sides, mode: str, suite: str, side: Side) -> Difference | None:
    """The difference on one side of a suite; None where the suite has no rows of that side.

    Raises `NotComparable`.
    """
    if suite != MACRO:
        return _compare(sides, mode, suite, side)
    found = [_compare(sides, mode, name, side) for name in sorted(sources_of(sides.suites(mode)))]
    known = [one for one in found if one is not None]
    if not known:
        return None
    draws = np.stack([one.draws for one in known])
    with np.errstate(invalid="ignore"):
        mean: Array = np.nansum(draws, axis=0) / (~np.isnan(draws)).sum(axis=0)
    return Difference(
        challenger=float(np.mean([one.challenger for one in known])),
        champion=float(np.mean([one.champion for one in known])),
        draws=mean,
        centre=float(np.mean([one.centre for one in known])),
        error=math.sqrt(sum(one.error**2 for one in known)) / len(known),
        worse=None,
        better=None,
    )


def _compare(sides: Sides, mode: str, suite: str, side: Side) -> Difference | None:
    challenger, champion = sides.rows(mode, suite)
    twins = _twins(challenger) if side == "pairs" else {}
    wanted = np.array(
        [row.id in twins if side == "pairs" else row.unsafe == (side == "misses") for row in challenger],
        dtype=np.float64,
    )
    if not wanted.any():
        return None
    wrong = {
        who: _wrongs(rows, mode, twins) * wanted
        for who, rows in zip(_WHO, (challenger, champion), strict=True)
    }
    # Groups are the challenger's; ids and labels are the same.
    groups = group_numbers([row.group for row in challenger])
    counts = np.stack([wanted, wrong["challenger"], wrong["champion"]], axis=1)
    drawn = np.concatenate(
        [weights @ counts for weights in draw_weights(groups, sides.draws, suite_seed(suite, sides.seed))]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        draws: Array = (drawn[:, 1] - drawn[:, 2]) / drawn[:, 0]
    shares: Mapping[str, float] = {who: float(wrong[who].sum() / wanted.sum()) for who in _WHO}
    return _matched(shares["challenger"], shares["champion"], draws, groups, counts)


def _matched(challenger: float, champion: float, draws: Array, groups: Groups, counts: Array) -> Difference:
    """With Agresti and Min's figures; a group counts by the share of its rows that differ."""
    sums = np.zeros((int(groups.max()) + 1, counts.shape[1]))
    np.add.at(sums, groups, counts)
    sums = sums[sums[:, 0] > 0]
    differences = (sums[:, 1] - sums[:, 2]) / sums[:, 0]
    worse, better = differences[differences > 0], -differences[differences < 0]
    more, less, count = worse.sum() + 0.5, better.sum() + 0.5, len(sums) + 2.0
    variance = ((more + less) - (more - less) ** 2 / count) / count**2
    return Difference(
        challenger=challenger,
        champion=champion,
        draws=draws,
        centre=float((more - less) / count),
        error=math.sqrt(variance),
        worse=len(worse),
        better=len(better),
    )


def _sign_test(more: int, less: int) -> float:
    """How often a fair coin gives `more` heads or more of both together.

    >>> _sign_test(3, 0), _sign_test(0, 0)
    (0.125, 1.0)
    """
    count = more + less
    if count > _EXACT_UP_TO:
        return 1.0 - NormalDist(count / 2, math.sqrt(count) / 2).cdf(more - 0.5)
    return sum(math.comb(count, heads) for heads in range(more, count + 1)) / 2**count


def _twins(rows: Sequence[MeasuredRow]) -> dict[str, str]:
    """Unsafe row → its twin, for the pairs that the rows hold: each counts once."""
    ids = {row.id for row in rows}
    return {row.id: row.twin for row in rows if row.unsafe and row.twin in ids}


def _wrongs(rows: Sequence[MeasuredRow], mode: str, twins: Mapping[str, str]) -> Array:
    """For each row whether it, or its twin where it is given one, is wrong."""
    wrong = {row.id: _wrong(row, mode) for row in rows}
    return np.array([wrong[row.id] or wrong.get(twins.get(row.id, ""), False) for row in rows], np.float64)


def _wrong(row: MeasuredRow, mode: str) -> bool:
    """No verdict is wrong."""
    return row.replies[mode].label != ("unsafe" if row.unsafe else "safe")
