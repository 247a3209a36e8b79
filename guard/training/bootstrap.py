"""Bootstrap over groups of rows: how far a figure would wander if other groups had been drawn.

Rows of a group (the two sides of a pair, a thread, the forms of one prompt) are drawn together, since they
are not independent (Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8). Two
speakers measured on the same rows get the same draws, so differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

CONFIDENCE: Final = 0.95
# Numbers of one block of draws: 32 MB of doubles.
_BLOCK: Final = 4_000_000


def group_numbers(names: Sequence[str]) -> Groups:
    """A number for each row's group, from 0, as they come up; an empty name is a group of its own."""
    known: dict[str, int] = {}
    numbers = []
    for place, name in enumerate(names):
        numbers.append(known.setdefault(name or f"\0{place}", len(known)))
    return np.array(numbers, dtype=np.int64)


def draw_weights(groups: Groups, draws: int, seed: int) -> Iterator[Array]:
    """How often each row counts in each draw: blocks of (draws, rows), `draws` of them in all.

    A draw takes as many groups as there are, with replacement. The same groups and seed give the same
    weights, whatever the block size.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    if not count:
        return
    rng = np.random.default_rng(seed)
    share = np.full(count, 1.0 / count)
    step = max(1, _BLOCK // len(groups))
    for start in range(0, draws, step):
        drawn = rng.multinomial(count, share, size=min(step, draws - start))
        yield drawn[:, groups].astype(np.float64)


def interval(draws: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of a figure's draws; draws in which it is undefined (NaN) do not count.

    Both ends are NaN where it is defined in none.
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `count`, 1 or more; it has a width at 0 and 1 too.

    >>> tuple(round(end, 3) for end in wilson(1.0, 10))
    (0.722, 1.0)
    """
    z = NormalDist().inv_cdf((1.0 + confidence) / 2)
    shrunk = 1.0 + z * z / count
    centre = (share + z * z / (2 * count)) / shrunk
    width = z / shrunk * math.sqrt(share * (1.0 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - width), min(1.0, centre + width)
