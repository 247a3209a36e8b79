"""Which labelled rows a batch of the warm start holds: drawn as from a deck, so that none is left over.

An epoch has as many draws as there are rows. A source counts by its number of rows to a power, and so do the
two labels within it; both rows of a pair of twins are drawn equally often, so labels under a text stay in
balance. Rows of one policy and of like length are dealt in hands, since they share the policy's tokens.
Everything follows from stage seed, step and batch settings.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from guard.training.data.rows import LabelledRow
from guard.training.settings import BatchSettings

MOST_TOKENS: Final = 24_576
"""Of a batch, about: what its activations take is bounded however long its rows are."""
# Rows of so many hands are sorted by length together.
_SORTED_HANDS: Final = 8
Hand = tuple[int, ...]
"""Indices of rows of one policy."""
_Kind = tuple[int, int, int, float, float]


class RowDeck:
    """Deals the hands; `tokens` of each row behind its policy, `prefixes` of that policy. 1 row or more."""

    def __init__(self, rows: Sequence[LabelledRow], tokens: Sequence[int], prefixes: Sequence[int]) -> None:
        self._rows, self._tokens, self._prefixes = rows, tokens, prefixes
        self._weights: dict[tuple[float, float], list[float]] = {}
        # Of each kind of batch the hands of the epoch that it is in, and how many those before it had.
        self._epochs: dict[_Kind, tuple[int, int, list[Hand]]] = {}

    def deal(self, seed: int, step: int, batch: BatchSettings) -> list[Hand]:
        """The hands of a step (from 1), `policies` of them, each of at most `exchanges` rows."""
        first = (step - 1) * batch.policies
        return [self._hand(seed, number, batch) for number in range(first, first + batch.policies)]

    def _hand(self, seed: int, number: int, batch: BatchSettings) -> Hand:
        kind = (seed, batch.policies, batch.exchanges, batch.source_power, batch.label_power)
        epoch, before, hands = self._epochs.get(kind) or (0, 0, self._shuffled(seed, 0, batch))
        if number < before:
            epoch, before, hands = 0, 0, self._shuffled(seed, 0, batch)
        while number - before >= len(hands):
            epoch, before = epoch + 1, before + len(hands)
            hands = self._shuffled(seed, epoch, batch)
        self._epochs[kind] = epoch, before, hands
        return hands[number - before]

    def _shuffled(self, seed: int, epoch: int, batch: BatchSettings) -> list[Hand]:
        """All hands of an epoch. A row of weight 1.3 is in it once, and by a chance of 0.3 once more."""
        rng = random.Random(f"rows {seed} {epoch}")
        chances: dict[str, float] = {}
        by_policy: defaultdict[int, list[int]] = defaultdict(list)
        weights = self.weights(batch.source_power, batch.label_power)
        for index, (row, weight) in enumerate(zip(self._rows, weights, strict=True)):
            pair = min(row.id, row.twin) if row.twin else row.id
            if pair not in chances:
                chances[pair] = rng.random()
            by_policy[id(row.policy)] += [index] * int(weight + chances[pair])
        hands = []
        window = batch.exchanges * _SORTED_HANDS
        for drawn in by_policy.values():
            rng.shuffle(drawn)
            for start in range(0, len(drawn), window):
                near = sorted(drawn[start : start + window], key=self._tokens.__getitem__)
                hands += self._cut(near, batch)
        rng.shuffle(hands)
        return hands

    def _cut(self, rows: Sequence[int], batch: BatchSettings) -> list[Hand]:
        """Hands within the limits, of one row at least."""
        most = MOST_TOKENS // batch.policies
        hands: list[list[int]] = []
        room = 0
        for index in rows:
            room -= self._tokens[index]
            if room < 0 or len(hands[-1]) == batch.exchanges:
                hands.append([])
                room = most - self._prefixes[index] - self._tokens[index]
            hands[-1].append(index)
            room = max(room, 0)
        return [tuple(hand) for hand in hands]

    def weights(self, source_power: float, label_power: float) -> list[float]:
        """How often each row is drawn in an epoch; in all as often as there are rows."""
        known = self._weights.get((source_power, label_power))
        if known is None:
            known = _weights(self._rows, source_power, label_power)
            self._weights[source_power, label_power] = known
        return known


def _weights(rows: Sequence[LabelledRow], source_power: float, label_power: float) -> list[float]:
    sources = Counter(row.source for row in rows)
    alone = Counter((row.source, row.label) for row in rows if not row.twin)
    unit = len(rows) / sum(count**source_power for count in sources.values())
    by_source = {source: unit * count ** (source_power - 1) for source, count in sources.items()}
    weights = []
    for row in rows:
        weight = by_source[row.source]
        counts = [count for label in ("safe", "unsafe") if (count := alone[row.source, label])]
        if not row.twin:
            shares = sum(count**label_power for count in counts)
            weight *= alone[row.source, row.label] ** (label_power - 1) * sum(counts) / shares
        weights.append(weight)
    return weights
