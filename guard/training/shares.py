"""The gradients of a batch, of which each thread takes a share.

The matrices of a small model are too small for several threads each: on two cores, two threads with half of
the trees each took seven tenths of the time of two threads within every multiplication.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.nn import functional

from guard.training.model import TinyGuard
from guard.training.packing import MARK_NAMES, Batch, Tree


class Progress:
    """Loss and accuracy per kind of target since the last line of the log."""

    def __init__(self, sums: dict[str, tuple[float, float]] | None = None) -> None:
        self._sums = defaultdict(lambda: (0.0, 0.0), sums or {})

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        total, number = self._sums[name]
        self._sums[name] = total + value, number + count

    def take(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        self._sums.clear()
        return means

    def sums(self) -> dict[str, tuple[float, float]]:
        return dict(self._sums)


@dataclass(frozen=True, slots=True)
class Share:
    """Trees of a batch that one thread takes; the weights of its targets sum up to its part of the batch."""

    batch: Batch
    targets: Any
    weights: Any
    scale: float
    """By which the batch counts beside others of its step."""
    prefix: str
    """Of its figures in the log."""


def shares_of(batches: Sequence[Batch], by_mark: Any, scale: float, prefix: str) -> list[Share]:
    """The shares of one batch. `by_mark`: weight of a target by its mark, [marks]."""
    targets = [batch.marks.nonzero()[:, 0] for batch in batches]
    weights = [by_mark[batch.marks[places]] for batch, places in zip(batches, targets, strict=True)]
    total = torch.stack([one.sum() for one in weights]).sum()
    return [
        Share(batch, places, own / total, scale, prefix)
        for batch, places, own in zip(batches, targets, weights, strict=True)
    ]


def dealt(trees: Sequence[Tree], hands: int) -> list[list[Tree]]:
    """Trees in `hands` lists of about as many tokens, none empty."""
    dealt: list[list[int]] = [[] for _ in range(min(hands, len(trees)))]
    for number in sorted(range(len(trees)), key=lambda one: -len(trees[one].ids)):
        min(dealt, key=lambda hand: sum(len(trees[one].ids) for one in hand)).append(number)
    return [[trees[number] for number in sorted(hand)] for hand in dealt]


class Workers:
    """Threads that take shares; within one, nothing is spread over threads any more."""

    def __init__(self, model: TinyGuard, threads: int) -> None:
        self.model, self.threads = model, threads
        self._before = torch.get_num_threads()

    def __enter__(self) -> Self:
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self.threads, "share", torch.set_num_threads, (1,))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._before)

    def backward(self, shares: Sequence[Share], progress: Progress) -> None:
        """Set the model's gradients to those of the shares, and note their figures.

        Added in the order of the shares, whichever ends first: sums of floats depend on it.
        """
        self.model.zero_grad()
        for gradients, figures in self._pool.map(self._of, shares):
            for name, value, count in figures:
                progress.add(name, value, count)
            for weight, gradient in zip(self.model.parameters(), gradients, strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)

    def _of(self, share: Share) -> tuple[Iterable[Any], list[tuple[str, float, float]]]:
        """Gradients of one share; name, sum and count of its figures."""
        wanted = share.batch.ids[share.targets]
        logits = self.model.logits(self.model(share.batch).index_select(0, share.targets - 1))
        loss = (functional.cross_entropy(logits, wanted, reduction="none") * share.weights).sum()
        gradients = torch.autograd.grad(loss * share.scale, list(self.model.parameters()))
        figures = [(f"{share.prefix}loss", float(loss.detach()), float(share.weights.sum()))]
        right = (logits.detach().argmax(-1) == wanted).float()
        marks = share.batch.marks[share.targets]
        for mark, name in MARK_NAMES.items():
            chosen = right[marks == mark]
            if chosen.numel():
                figures.append((share.prefix + name, float(chosen.sum()), chosen.numel()))
        return gradients, figures
