"""Labelled rows → packed trees for the warm start from scratch: policy, conversations under it, two answers.

The answer with reasoning is the row's own rationale or, where it has none, one that names the violated
categories; then the verdict. The texts are those that serving would read.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from guard.errors import TemplateError, TrainingError
from guard.prompt import PromptRenderer, as_read
from guard.training.data.rows import LabelledRow
from guard.training.encoding import TreeEncoder
from guard.training.generator.words import wrong_nonce
from guard.training.packing import BUILTIN, COPY, FIRST, Tree
from guard.training.row_deck import Hand, RowDeck
from guard.training.row_encoding import LeftOut, RowEncoder, answer_parts, rationale_of
from guard.training.settings import BatchSettings

# Rows that are encoded together.
_AT_ONCE: Final = 512
Ids = tuple[int, ...]


class RowTrees:
    """Draws batches of the rows that fit into `max_positions` tokens, prompt and answer together.

    Raises `TrainingError` where none fits.
    """

    def __init__(self, renderer: PromptRenderer, rows: Sequence[LabelledRow], max_positions: int) -> None:
        self._renderer = renderer
        self._encoder = TreeEncoder(renderer)
        self.left_out: Counter[LeftOut] = Counter()
        self._forms = RowEncoder(renderer, max_positions, max_positions)
        self._in_form: dict[tuple[int, str, tuple[str, ...], str], bool] = {}
        self._verdicts: dict[str, tuple[int, ...]] = {}
        fitting: dict[str, tuple[LabelledRow, int, int]] = {}
        for row, tokens in zip(rows, self._most_tokens(rows), strict=True):
            prefix = len(renderer.system_of(row.policy))
            if reason := self._fault(row, prefix, tokens, max_positions):
                self.left_out[reason] += 1
            else:
                assert tokens is not None
                fitting[row.id] = row, tokens, prefix
        # Twins are taught together, so that labels under a text stay in balance.
        kept = [one for one in fitting.values() if not one[0].twin or one[0].twin in fitting]
        if lost := len(fitting) - len(kept):
            self.left_out["twin_left_out"] += lost
        self._rows = [row for row, _, _ in kept]
        if not self._rows:
            raise TrainingError(
                f"none of {len(rows)} rows fits into max_positions, {max_positions}; expected one or more"
            )
        self._deck = RowDeck(self._rows, [one[1] for one in kept], [one[2] for one in kept])

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
        tree, rows = Tree(), [self._rows[index] for index in hand]
        prefix = self._renderer.system_of(rows[0].policy)
        tree.add(prefix, 0, 0, 0)
        # Random: a model that had learnt the marks of one secret would know no others.
        marks = [wrong_nonce(rng, self._renderer.template.nonce_length) for _ in rows]
        encoded = self._encoded(rows, marks)
        for number, (row, (conversation, thought)) in enumerate(zip(rows, encoded, strict=True), 1):
            verdict = self._verdict(row)
            targets = [FIRST, *[COPY] * (len(thought) + len(verdict))]
            if row.rationale:  # behind one that names the categories the label is a copy
                targets[len(thought) + len(self._renderer.fast_suffix)] = BUILTIN
            self._encoder.add(tree, len(prefix), number, conversation, thought, verdict, targets)
        return tree

    def _encoded(self, rows: Sequence[LabelledRow], marks: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Of each row conversation and reasoning, all encoded at once. Raises `TemplateError`."""
        template = self._renderer.template
        texts: list[str] = []
        counts = []
        for row, mark in zip(rows, marks, strict=True):
            pieces = template.conversation_text(mark, as_read(row.turns))
            texts += [*pieces, f" {rationale_of(row)}"]
            counts.append(len(pieces))
        ids = iter(self._renderer.encoder.plain(texts))
        return [(tuple(i for _ in range(count) for i in next(ids)), next(ids)) for count in counts]

    def _fault(self, row: LabelledRow, prefix: int, tokens: int | None, max_positions: int) -> LeftOut | None:
        """Why a row is not trained on: `prefix` tokens of its policy, `tokens` behind it."""
        if tokens is None:
            return "not_encodable"
        if prefix + tokens > max_positions:
            return "prompt_too_long"
        key = (id(row.policy), row.label, row.codes, row.rationale)
        if key not in self._in_form:
            self._in_form[key] = self._forms.answer(row, "think", rationale_of(row)) is not None
        return None if self._in_form[key] else "answer_not_in_form"

    def _verdict(self, row: LabelledRow) -> Ids:
        """End of the reasoning, verdict and codes."""
        key = " ".join((row.label, *row.codes))
        if key not in self._verdicts:
            self._verdicts[key] = answer_parts(self._renderer, row, "")[1]
        return self._verdicts[key]

    def _most_tokens(self, rows: Sequence[LabelledRow]) -> Iterator[int | None]:
        """Of each row conversation and both answers, whatever the boundary mark is; None: no encoding."""
        renderer = self._renderer
        for start in range(0, len(rows), _AT_ONCE):
            chunk = rows[start : start + _AT_ONCE]
            found: Sequence[tuple[Ids, Ids] | None]
            try:
                found = self._encoded(chunk, [""] * len(chunk))
            except TemplateError:
                found = [self._alone(row) for row in chunk]
            for row, parts in zip(chunk, found, strict=True):
                if parts is None:
                    yield None
                    continue
                marks = (len(row.turns) + 1) * renderer.template.nonce_length
                texts = sum(map(len, parts)) + 2 * len(self._verdict(row))
                yield texts + marks + len(renderer.opening_ids) + 2

    def _alone(self, row: LabelledRow) -> tuple[Ids, Ids] | None:
        try:
            return self._encoded([row], [""])[0]
        except TemplateError:
            return None
