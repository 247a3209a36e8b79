"""Near-duplicates across splits and of evaluation sets: found by MinHash, decided by exact similarity.

Two conversations are near when the Jaccard similarity of their character 5-grams (of the text in one line and
small letters, all turns together) reaches the threshold. MinHash with locality-sensitive hashing proposes
pairs; each is checked exactly, so nothing is dropped for a collision. What the hashing overlooks stays: at
most one in a hundred of the pairs that lie at the threshold, fewer of nearer ones.

A prompt of an evaluation set with another answer need not be near. So rows of `train` whose group is that of
an evaluation row leave as well: the model would have seen the prompt.

The only module that imports datasketch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from guard.prompt import Turn, as_read
from guard.training.data.drafts import Draft, Drops, without
from guard.training.data.groups import group_of, named_group, plain_text
from guard.training.data.rows import LabelledRow
from guard.training.data.settings import LeakSettings
from guard.training.data.sources import read_raw_rows, source_files

_GRAM: Final = 5
_MOST_MISSED: Final = 0.01
# Gram sets that are kept: those of templates are asked for again and again.
_KEPT_SETS: Final = 2048
_MULTIPLIERS: Final = np.array([1_000_003, 8_191, 131_071, 524_287, 2_147_483_647], dtype=np.uint64)


class NearTexts:
    """Texts that others are compared with."""

    def __init__(self, settings: LeakSettings, texts: Iterable[str]) -> None:
        self._threshold = settings.threshold
        self._permutations = settings.permutations
        self._permuted = MinHash(num_perm=settings.permutations).permutations
        self._texts = list(dict.fromkeys(texts))
        self._grams = lru_cache(_KEPT_SETS)(character_grams)
        bands = bands_and_rows(settings.threshold, settings.permutations)
        self._index = MinHashLSH(num_perm=settings.permutations, params=bands)
        for number, text in enumerate(self._texts):
            self._index.insert(number, self._hashed(text))

    def has_near(self, text: str) -> bool:
        """Whether one of the texts is as similar as the threshold, or more."""
        if not self._texts:
            return False
        grams = character_grams(text)
        return any(
            similarity(grams, self._grams(self._texts[number])) >= self._threshold
            for number in self._index.query(self._hashed(text))
        )

    def _hashed(self, text: str) -> MinHash:
        hashed = MinHash(
            num_perm=self._permutations, permutations=self._permuted, scheme="affine32", hashfunc=int
        )
        hashed.update_batch(_gram_numbers(text).tolist())
        return hashed


def bands_and_rows(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands of hashes and hashes in each: the fewest proposals that miss at most 1 % at the threshold.

    A pair of similarity s is proposed with probability 1 - (1 - s^rows)^bands. The library's own choice
    weighs misses against proposals and misses 5 % at 0.8.
    """
    for rows in range(permutations // 2, 1, -1):  # the library wants two bands at least
        bands = permutations // rows
        if (1.0 - threshold**rows) ** bands <= _MOST_MISSED:
            return bands, rows
    return permutations, 1


def character_grams(text: str) -> frozenset[str]:
    """The runs of 5 characters of a text; of a shorter one, the text."""
    if len(text) <= _GRAM:
        return frozenset((text,))
    return frozenset(text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: the share of what both have in what either has, 0 to 1."""
    return len(one & other) / len(one | other)


def without_leaks(drafts: Sequence[Draft], settings: LeakSettings, drops: Drops) -> list[Draft]:
    """The drafts without near-duplicates; both twins of a pair go together.

    Rows near to an evaluation set leave both splits (`near_duplicate_of_evaluation`), and rows of `train`
    with a prompt of one leave `train` (`group_in_evaluation`); then rows of `train` near to one of `dev`
    leave `train` (`near_duplicate_of_dev`). Raises `TrainingDataError` for evaluation files that cannot be
    read.
    """
    texts = {draft.row.id: plain_text(draft.row.turns) for draft in drafts}
    if settings.evaluation_paths:
        evaluation = _evaluation_rows(settings.evaluation_paths)
        gone = _near_ids(texts, drafts, NearTexts(settings, evaluation))
        drafts = without(drafts, gone, drops, "near_duplicate_of_evaluation")
        prompts: set[str] = set().union(*evaluation.values())
        shared = {d.row.id for d in drafts if d.row.split == "train" and _groups(d.row) & prompts}
        drafts = without(drafts, shared, drops, "group_in_evaluation")
    dev = NearTexts(settings, (texts[draft.row.id] for draft in drafts if draft.row.split == "dev"))
    in_train = [draft for draft in drafts if draft.row.split == "train"]
    return without(drafts, _near_ids(texts, in_train, dev), drops, "near_duplicate_of_dev")


def _near_ids(texts: dict[str, str], drafts: Iterable[Draft], known: NearTexts) -> set[str]:
    """Ids of the drafts that are near; a text that stands in several rows is compared once."""
    near: dict[str, bool] = {}
    gone: set[str] = set()
    for draft in drafts:
        text = texts[draft.row.id]
        if text not in near:
            near[text] = known.has_near(text)
        if near[text]:
            gone.add(draft.row.id)
    return gone


def _evaluation_rows(paths: Iterable[str]) -> dict[str, set[str]]:
    """Text of the evaluation rows → their groups."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        for file in source_files(Path(path)):
            for _, row in read_raw_rows(file):
                turns = as_read(Turn(role=message.role, text=message.content) for message in row.messages)
                groups = found[plain_text(turns)]
                groups.add(group_of(turns, "prompt"))
                if row.meta.group:
                    groups.add(named_group(row.source, row.meta.group))
    return found


def _groups(row: LabelledRow) -> set[str]:
    """The row's group, and that of its prompt where the group has a name of its own."""
    if row.group == group_of(row.turns, "conversation"):
        return {row.group}
    return {row.group, group_of(row.turns, "prompt")}


def _gram_numbers(text: str) -> NDArray[np.uint64]:
    """A number of 32 bits for each different run of 5 characters.

    Numbers of the characters times odd constants: a hash of each run in Python would take ten times as long.
    """
    padded = text.ljust(_GRAM)
    points = np.frombuffer(padded.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32).astype(
        np.uint64
    )
    count = len(points) - _GRAM + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for at, multiplier in enumerate(_MULTIPLIERS):
        mixed = (mixed ^ points[at : at + count]) * multiplier
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed & np.uint64(0xFFFFFFFF))
