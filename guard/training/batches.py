"""In which order rows are trained on: made once, from the seed alone, for all epochs.

An order that stands before training begins is the same in a run that was cut off and goes on. Batches are
whole: what is left of an epoch begins the next one, and what is left of the last one is not trained on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from guard.errors import TrainingError
from guard.training.row_encoding import Asked

# Rows of so many batches are sorted by length together: padding falls to a few per cent, and batches of long
# rows still stand everywhere in an epoch.
_SORTED_BATCHES: Final = 64
_Item = TypeVar("_Item")


def order_by_length(lengths: Sequence[int], *, batch: int, epochs: int, seed: int) -> list[int]:
    """Indices of rows, `batch` after `batch`, rows of like length together; every row `epochs` times.

    Of the last incomplete batch nothing is taken. Raises `TrainingError` where there is no whole batch.
    """
    rng = random.Random(f"order of rows {seed}")
    rows = [index for _ in range(epochs) for index in _shuffled(range(len(lengths)), rng)]
    whole = len(rows) // batch * batch
    if not whole:
        raise _too_few(len(rows), batch)
    batches: list[list[int]] = []
    window = batch * _SORTED_BATCHES
    for start in range(0, whole, window):
        near = sorted(rows[start : min(start + window, whole)], key=lambda index: lengths[index])
        batches += _shuffled([near[at : at + batch] for at in range(0, len(near), batch)], rng)
    return [index for one in batches for index in one]


def twin_units(asked: Sequence[Asked]) -> tuple[list[tuple[int, ...]], int]:
    """Indices of rows that are asked together: twins in pairs, others alone; and how many lost their twin.

    A row whose twin is not there is left out, since the balance of labels under a text is what twins are for.
    Raises `TrainingError` for twins with one label, and for a row that is the twin of two.
    """
    places = {one.id: place for place, one in enumerate(asked)}
    partner: dict[int, int] = {}
    lost = set()
    for place, one in enumerate(asked):
        if not one.twin:
            continue
        other = places.get(one.twin)
        if other is None:
            lost.add(place)
            continue
        if one.truth.label == asked[other].truth.label:
            raise TrainingError(f"row {one.id}: twin: {one.twin} has the same label; expected the other one")
        for this, that in ((place, other), (other, place)):
            if partner.setdefault(this, that) != that:
                raise TrainingError(f"row {asked[this].id}: twin: two rows name it; expected one")
    # A row may have lost its twin and be named by none; what is named by a row that is there has a partner.
    pairs = [(place, other) for place, other in partner.items() if place < other]
    alone = [(place,) for place in range(len(asked)) if place not in partner and place not in lost]
    return [*pairs, *alone], len(lost - partner.keys())


def order_of_units(units: Sequence[tuple[int, ...]], *, batch: int, epochs: int, seed: int) -> list[int]:
    """Indices of rows, `batch` after `batch`; no pair is parted, so twins stand in one batch.

    A batch is a generation of GRPO. Where several steps learn from one, TRL mixes its answers over them, and
    twins may be parted there: the balance is the batch's, and not that of each step.

    Raises `TrainingError` where there is no whole batch, and where pairs stand before an odd `batch`.
    """
    rng = random.Random(f"order of units {seed}")
    if batch % 2 and any(len(unit) > 1 for unit in units):
        raise TrainingError(f"rows_per_step: found {batch} rows at once; expected an even number for twins")
    rows: list[int] = []
    single: tuple[int, ...] = ()
    for unit in (unit for _ in range(epochs) for unit in _shuffled(units, rng)):
        if len(unit) > 1 or batch % 2:
            rows += unit
        elif single:
            # Two rows without twins make a pair of places, so that all pairs begin at even ones.
            rows += single + unit
            single = ()
        else:
            single = unit
    whole = len(rows) // batch * batch
    if not whole:
        raise _too_few(len(rows) + len(single), batch)
    return rows[:whole]


def _shuffled(items: Iterable[_Item], rng: random.Random) -> list[_Item]:
    mixed = list(items)
    rng.shuffle(mixed)
    return mixed


def _too_few(rows: int, batch: int) -> TrainingError:
    return TrainingError(
        f"{rows} rows over all epochs do not fill one step of {batch}; expected more of them"
    )
