"""Labelled rows → packed trees for the warm start from scratch: a policy, conversations under it, two answers.

The answer with reasoning is the row's own rationale or, where it has none, one that names the violated
categories; then the verdict. The texts are those that serving would read.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from guard.errors import TemplateError, TrainingError
from guard.prompt import PromptRenderer, as_read
from guard.training.data.rows import LabelledRow
from guard.training.encoding import TreeEncoder
from guard.training.generator.words import wrong_nonce
from guard.training.packing import BUILTIN, COPY, FIRST, Tree
from guard.training.row_deck import Hand, RowDeck
from guard.training.row_encoding import LeftOut, answer_parts, naming_rationale
from guard.training.settings import BatchSettings


class RowTrees:
    """Draws batches of the rows that fit into `max_positions` tokens, prompt and answer together.

    Raises `TrainingError` where none fits.
    """

    def __init__(self, renderer: PromptRenderer, rows: Sequence[LabelledRow], max_positions: int) -> None:
        self._renderer = renderer
        self._encoder = TreeEncoder(renderer)
        self.left_out: Counter[LeftOut] = Counter()
        self._rows: list[LabelledRow] = []
        tokens, prefixes = [], []
        for row in rows:
            prefix = len(renderer.system_of(row.policy))
            found = self._most_tokens(row)
            if found is None:
                self.left_out["not_encodable"] += 1
            elif prefix + found > max_positions:
                self.left_out["prompt_too_long"] += 1
            else:
                self._rows.append(row)
                tokens.append(found)
                prefixes.append(prefix)
        if not self._rows:
            raise TrainingError(
                f"none of {len(rows)} rows fits into max_positions, {max_positions}; expected one or more"
            )
        self._deck = RowDeck(self._rows, tokens, prefixes)

    def account(self) -> str:
        """A sentence for the log."""
        policies = len({id(row.policy) for row in self._rows})
        return f"rows: {len(self._rows)} under {policies} policies; left out {dict(self.left_out)}"

    def draw(self, stage_seed: int, step: int, batch: BatchSettings) -> list[Tree]:
        """The trees of a step (from 1): what they hold follows from seed, step and settings alone."""
        return [
            self._tree(hand, random.Random(f"marks {stage_seed} {step} {number}"))
            for number, hand in enumerate(self._deck.deal(stage_seed, step, batch))
        ]

    def _tree(self, hand: Hand, rng: random.Random) -> Tree:
        tree = Tree()
        prefix = self._renderer.system_of(self._rows[hand[0]].policy)
        tree.add(prefix, 0, 0, 0)
        for number, index in enumerate(hand, 1):
            row = self._rows[index]
            # Random: a model that had learnt the marks of one secret would know no others.
            mark = wrong_nonce(rng, self._renderer.template.nonce_length)
            conversation = self._renderer.conversation_ids(mark, as_read(row.turns))
            thought, verdict = self._answer(row)
            marks = [FIRST, *[COPY] * (len(thought) + len(verdict))]
            if row.rationale:  # behind one that names the categories the label is a copy
                marks[len(thought) + len(self._renderer.fast_suffix)] = BUILTIN
            self._encoder.add(tree, len(prefix), number, conversation, thought, verdict, marks)
        return tree

    def _answer(self, row: LabelledRow) -> tuple[tuple[int, ...], tuple[int, ...]]:
        thought, verdict, _ = answer_parts(self._renderer, row, row.rationale or naming_rationale(row))
        return thought, verdict

    def _most_tokens(self, row: LabelledRow) -> int | None:
        """Of conversation and both answers, whatever the boundary mark is; None for what has no encoding."""
        renderer = self._renderer
        try:
            texts = renderer.conversation_ids("", as_read(row.turns))
            thought, verdict = self._answer(row)
        except TemplateError:
            return None
        marks = (len(row.turns) + 1) * renderer.template.nonce_length
        return len(texts) + marks + len(renderer.opening_ids) + len(thought) + 2 * len(verdict) + 2
