"""How far the worker is behind the end of its partitions. Pure.

>>> lags([Reach(0, 5, 1_000, open=True), Reach(1, 9, 2_000, open=False)], {}, {0: 8, 1: 9}, now_ms=4_000)
[Lag(partition=0, records=3, seconds=3.0), Lag(partition=1, records=0, seconds=0.0)]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from workers.ports import Lag


class Reach(NamedTuple):
    """How far a partition has come since it was assigned.

    `offset`: what is committed, as far as is known here; None before the first read. `timestamp_ms`: of the
    oldest record without an outcome where one is `open`, else of the last that was read; None: none was.
    """

    partition: int
    offset: int | None
    timestamp_ms: int | None
    open: bool


def lags(
    reaches: Iterable[Reach], starts: Mapping[int, int], ends: Mapping[int, int], now_ms: float
) -> list[Lag]:
    """One per partition, same order. `starts`: what was committed when it was assigned; `ends`: the next
    offset that the broker will give; `now_ms` in the broker's time. What is not in there is not known.
    """
    return [_lag(reach, starts, ends, now_ms) for reach in reaches]


def _lag(reach: Reach, starts: Mapping[int, int], ends: Mapping[int, int], now_ms: float) -> Lag:
    number = reach.partition
    age_s = None if reach.timestamp_ms is None else max(0.0, now_ms - reach.timestamp_ms) / 1000
    at = starts.get(number) if reach.offset is None else reach.offset
    end = ends.get(number)
    if at is None or end is None:
        return Lag(number, None, age_s if reach.open else None)
    records = max(0, end - at)  # what was committed since the end was asked for is above it
    return Lag(number, records, age_s if records or reach.open else 0.0)
