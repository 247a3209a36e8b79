"""The rows that a calibration is fitted on, and those on which it is measured.

Both are drawn from what training never shows (sentence frames, objects and words that are held out), with
other seeds than any training; rows of the fit that are almost rows of the measurement are left out. Where
there are labelled rows of real sources, these are parted by their groups instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from guard.calibration import FittedOn
from guard.training.data.rows import LabelledRow, PolicyHashes
from guard.training.generator.conversations import Kind, Row, Split
from guard.training.generator.evaluation_sets import CUSTOM_SOURCES, draw_rows
from guard.training.generator.policies import TermSource


class _Drawn(NamedTuple):
    """How the rows of a set are drawn (`draw_rows`)."""

    split: Split
    kind: Kind | None = None
    source: TermSource = "train"


# As `evaluation_sets` draws them.
_DRAWN: Final = {
    "templates": _Drawn("templates"),
    "objects": _Drawn("objects"),
    "both": _Drawn("both"),
    **{f"custom_{source}/on": _Drawn("templates", "listed", source) for source in CUSTOM_SOURCES},
    **{f"custom_{source}/other": _Drawn("templates", "unlisted", source) for source in CUSTOM_SOURCES},
    "near_misses": _Drawn("templates", "unlisted", "near"),
}
HELD_OUT_SETS: Final = tuple(_DRAWN)
"""Sets of the evaluation that hold out what training shows; about 43 % of their rows are unsafe."""
FIT_ROWS_PER_ROW: Final = 2
"""Rows of a set in the fit, for each of the evaluation."""
FIT_ROWS_OF_ASSISTANTS_PER_ROW: Final = 0.5
"""Further rows of assistants in the fit: their curve is another one, and needs rows of its own."""
# Beyond the seeds of the evaluation's own sets, which are its seed and the four after it.
SEED_STEP: Final = 1000
# Two texts are near duplicates from this share of common shingles; at 0.8 they differ in a word or two.
NEAR_DUPLICATE: Final = 0.8
# Words of a shingle; Broder (1997), "On the resemblance and containment of documents".
_SHINGLE_WORDS: Final = 3
_WORD: Final = re.compile(r"\w+")

Shingles = frozenset[tuple[str, ...]]


class CalibrationSplit(msgspec.Struct, frozen=True):
    """Rows by set: those of the fit, and those on which it is measured. `data` describes the fit's."""

    fit: dict[str, list[Row]]
    held_out: dict[str, list[Row]]
    data: FittedOn


def draw_split(sets: Mapping[str, list[Row]], count: int, seed: int) -> CalibrationSplit:
    """The rows of a calibration beside an evaluation's `sets`, which have `count` rows each by `seed`."""
    drawn = {name: _draw(how, count, seed + SEED_STEP) for name, how in _DRAWN.items()}
    held_out = {name: sets[name] for name in HELD_OUT_SETS}
    fit, left_out = without_near_duplicates(drawn, held_out)
    data = FittedOn(
        name=(
            f"{', '.join(HELD_OUT_SETS)} of guard/training/generator, {len(drawn['both'])} rows each, "
            f"seed {seed + SEED_STEP}, with more rows of assistants than there"
        ),
        sha256=rows_digest(fit),
        rows=sum(map(len, fit.values())),
        near_duplicates=left_out,
    )
    return CalibrationSplit(fit, held_out, data)


def in_first_half(row: LabelledRow, seed: int) -> bool:
    """Whether a labelled row is of the half that the calibration is fitted on; a group stays together."""
    digest = hashlib.sha256(f"calibration {seed} {row.group}".encode()).digest()
    return digest[0] < 128


def labelled_data(sources: Mapping[str, Sequence[LabelledRow]], seed: int) -> FittedOn:
    """What the calibration says of the labelled rows that it was fitted on."""
    fit = {name: [row for row in rows if in_first_half(row, seed)] for name, rows in sources.items()}
    return FittedOn(
        name=f"half of the labelled rows of {len(sources)} sources, by their groups, seed {seed}",
        sha256=rows_digest(fit),
        rows=sum(map(len, fit.values())),
        near_duplicates=0,
    )


def held_out_rows(sets: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of the sets `HELD_OUT_SETS`, in one list."""
    return [row for name in HELD_OUT_SETS for row in sets[name]]


def _draw(how: _Drawn, count: int, seed: int) -> list[Row]:
    """Rows of a set, and further rows of assistants, who speak last in a tenth of what is drawn."""
    rows = draw_rows(how.split, count * FIT_ROWS_PER_ROW, seed, how.kind, how.source)
    wanted, more = round(count * FIT_ROWS_OF_ASSISTANTS_PER_ROW), list[Row]()
    while len(more) < wanted:
        seed += SEED_STEP
        drawn = draw_rows(how.split, count * FIT_ROWS_PER_ROW, seed, how.kind, how.source)
        more += [row for row in drawn if row.exchange.turns[-1].role == "assistant"]
    return rows + more[:wanted]


def without_near_duplicates(
    sets: Mapping[str, Sequence[Row]], others: Mapping[str, Sequence[Row]]
) -> tuple[dict[str, list[Row]], int]:
    """The sets without rows whose last turn resembles that of a row of `others`, and how many those were.

    The policies are not compared: the same text under another policy is left out, too.
    """
    by_shingle: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes: list[int] = []
    for number, shingles in enumerate({_shingles(row) for rows in others.values() for row in rows}):
        sizes.append(len(shingles))
        for shingle in shingles:
            by_shingle[shingle].append(number)

    def resembles(row: Row) -> bool:
        shingles = _shingles(row)
        common = Counter(number for shingle in shingles for number in by_shingle.get(shingle, ()))
        return any(
            count >= NEAR_DUPLICATE * (len(shingles) + sizes[number] - count)
            for number, count in common.items()
        )

    kept = {name: [row for row in rows if not resembles(row)] for name, rows in sets.items()}
    return kept, sum(map(len, sets.values())) - sum(map(len, kept.values()))


def rows_digest(sets: Mapping[str, Sequence[Row | LabelledRow]]) -> str:
    """SHA-256 (hex) over the rows in their order; of a labelled row over what is judged, and its label."""
    digest, hashes = hashlib.sha256(), PolicyHashes()
    for name, rows in sets.items():
        for row in rows:
            content = _judged(row, hashes) if isinstance(row, LabelledRow) else row
            line = json.dumps([name, msgspec.to_builtins(content)], ensure_ascii=True)
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _judged(row: LabelledRow, hashes: PolicyHashes) -> list[object]:
    """With the policy's hash for the policy: a hundred thousand rows share a few large ones."""
    return [row.id, hashes.of(row.policy), row.turns, row.label]


def _shingles(row: Row) -> Shingles:
    words = _WORD.findall(row.exchange.turns[-1].text.casefold())
    if len(words) < _SHINGLE_WORDS:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[start:] for start in range(_SHINGLE_WORDS)), strict=False))
