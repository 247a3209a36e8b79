"""Policies and exchanges → trees of token ids, through the same renderer that serving uses."""

from __future__ import annotations

import random
from collections.abc import Sequence

from guard.prompt import PromptRenderer
from guard.training.generator.conversations import Exchange
from guard.training.generator.policies import PolicyLine
from guard.training.generator.words import wrong_nonce
from guard.training.packing import BUILTIN, COPY, CUSTOM, FAST, FAST_CODE, FIRST, Tree


class TreeEncoder:
    """Encodes training groups: policy, then per exchange the conversation and its two answers."""

    def __init__(self, renderer: PromptRenderer) -> None:
        self.renderer = renderer
        self.encoder = renderer.encoder
        if len(renderer.eos_token_ids) != 1:
            raise ValueError("training needs exactly one end token")
        self._eos = renderer.eos_token_ids[0]

    def encode(self, policy: Sequence[PolicyLine], exchanges: Sequence[Exchange], rng: random.Random) -> Tree:
        """One tree. Boundary marks are random here: the model must not know the secret."""
        tree = Tree()
        prefix = self.renderer.system_ids(policy)
        tree.add(prefix, 0, 0, 0)
        pieces = self.encoder.plain([piece for e in exchanges for piece in _pieces(e)])
        for index, exchange in enumerate(exchanges):
            nonce = wrong_nonce(rng, self.renderer.template.nonce_length)
            tail = self.renderer.conversation_ids(nonce, exchange.turns)
            trace, subject = pieces[2 * index : 2 * index + 2]
            verdict = self._verdict(exchange)
            marks = _trace_marks(exchange, len(trace) + len(verdict) + 1, subject)
            self.add(tree, len(prefix), index + 1, tail, trace, verdict, marks)
        return tree

    def add(
        self,
        tree: Tree,
        prefix: int,
        number: int,
        conversation: Sequence[int],
        trace: Sequence[int],
        verdict: tuple[int, ...],
        marks: Sequence[int],
    ) -> None:
        """Add exchange `number` (from 1) behind a prefix of so many tokens, with both its answers.

        `marks` are those of the answer with reasoning: trace, verdict, end token. Raises ValueError for a
        verdict that does not begin as the fast answer's own part does.
        """
        suffix = self.renderer.fast_suffix
        if verdict[: len(suffix)] != suffix:
            raise ValueError("the verdict's tokens depend on what follows them")
        tail = (*conversation, *self.renderer.opening_ids)
        tree.add(tail, prefix, number, 0)
        start = prefix + len(tail)
        tree.add((*trace, *verdict, self._eos), start, number, 1, marks)
        rest = (*verdict[len(suffix) :], self._eos)
        fast = [0] * len(suffix) + [FAST, COPY] + [FAST_CODE] * (len(rest) - 3) + [COPY]
        tree.add((*suffix, *rest), start, number, 2, fast)

    def _verdict(self, exchange: Exchange) -> tuple[int, ...]:
        code = f" {exchange.code}" if exchange.code else ""
        return self.encoder.structure(self.renderer.template.answer_text(exchange.label) + code)


def _pieces(exchange: Exchange) -> tuple[str, str]:
    """The trace, and what stands before its deciding word."""
    return f" {exchange.trace}", f" {exchange.subject}" if exchange.subject else ""


def _trace_marks(exchange: Exchange, length: int, subject: tuple[int, ...]) -> list[int]:
    marks = [COPY] * length
    marks[0] = FIRST
    if subject:
        marks[len(subject)] = CUSTOM if exchange.kind in ("listed", "unlisted") else BUILTIN
    return marks
