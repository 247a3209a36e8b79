"""Labelled rows → token ids of prompts and answers, through the renderer that serving uses.

Training never sees a prompt as text: a message could write the added vocabulary, and a tokenizer that is
given the whole text would read it as structure. Whatever does not fit is left out with a reason, never cut.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from guard.answer import Answer, parse_answer
from guard.errors import TemplateError
from guard.prompt import PromptRenderer, PromptTemplate, as_read
from guard.training.data.rows import LabelledRow
from guard.training.rewards import Truth
from schemas.policy import canonical_categories

Way = Literal["think", "fast"]
LeftOut = Literal[
    "prompt_too_long", "answer_too_long", "not_encodable", "answer_not_in_form", "twin_left_out"
]
"""Why a row is not trained on."""
Ids = NDArray[np.int32]
_SECRET_BYTES: Final = 32


def training_renderer(folder: Path, template: PromptTemplate, seed: int) -> PromptRenderer:
    """A renderer whose boundary marks follow from the seed, so that no model learns those of a service."""
    return PromptRenderer(folder, template, Random(f"marks of training {seed}").randbytes(_SECRET_BYTES))


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as the guard is asked it. `prompt` are all ids before the completion; `lead`, the last of them,
    are those behind our own `<think>`: the closed reasoning of a fast question, else none."""

    id: str
    way: Way
    prompt: Ids
    lead: tuple[int, ...]
    truth: Truth
    twin: str = ""


_Found = TypeVar("_Found", Asked, Ids)


class RowEncoder:
    """Encodes rows for one renderer; `left_out` counts what did not fit, by reason."""

    def __init__(self, renderer: PromptRenderer, max_prompt_tokens: int, max_completion_tokens: int) -> None:
        if not renderer.eos_token_ids:
            raise TemplateError(
                "the model names no end token; expected eos_token_id in generation_config.json"
            )
        self.renderer = renderer
        self.left_out: Counter[LeftOut] = Counter()
        self._max_prompt = max_prompt_tokens
        self._max_completion = max_completion_tokens

    def ask(self, row: LabelledRow, way: Way) -> Asked | None:
        """The question; None, and counted, where it does not fit."""
        return self._counted(self._ask(row, way))

    def answer(self, row: LabelledRow, way: Way, rationale: str = "") -> Ids | None:
        """The ids of the right answer, the end token last; None, and counted, where it does not fit.

        Every answer is read back by the parser of serving: a rationale that writes a verdict of its own, or
        closes the reasoning, teaches no form and is left out.
        """
        return self._counted(self._answer(row, way, rationale))

    def completion_text(self, asked: Asked, completion: Any) -> str:
        """What the parser reads of a completion: everything behind our own `<think>`."""
        return self.renderer.decode((*asked.lead, *completion))

    def _ask(self, row: LabelledRow, way: Way) -> Asked | LeftOut:
        lead = self.renderer.fast_suffix if way == "fast" else ()
        turns = as_read(row.turns)
        try:
            prompt = self.renderer.render_within(row.policy, turns, self._max_prompt - len(lead))
        except TemplateError:
            return "not_encodable"
        if prompt is None:
            return "prompt_too_long"
        categories = canonical_categories(row.policy)
        truth = Truth(
            label=row.label,
            codes=row.codes,
            policy_codes=tuple(category.code for category in categories),
            turns=tuple(turn.text for turn in turns),
            rules=tuple(text for c in categories for text in (c.definition, *c.exceptions)),
        )
        ids = np.asarray((*prompt, *lead), dtype=np.int32)
        return Asked(id=row.id, way=way, prompt=ids, lead=lead, truth=truth, twin=row.twin)

    def _answer(self, row: LabelledRow, way: Way, rationale: str) -> Ids | LeftOut:
        suffix = self.renderer.fast_suffix
        try:
            thought, verdict, end = answer_parts(self.renderer, row, rationale if way == "think" else "")
        except TemplateError:
            return "not_encodable"
        if verdict[: len(suffix)] != suffix:
            return "answer_not_in_form"
        text = self.renderer.decode((*thought, *verdict))
        read = parse_answer(text, [c.code for c in row.policy.categories])
        if not isinstance(read, Answer) or (read.label, set(read.codes)) != (row.label, set(row.codes)):
            return "answer_not_in_form"
        ids = (*thought, *(verdict if way == "think" else verdict[len(suffix) :]), *end)
        if len(ids) > self._max_completion:
            return "answer_too_long"
        return np.asarray(ids, dtype=np.int32)

    def _counted(self, found: _Found | LeftOut) -> _Found | None:
        if isinstance(found, str):
            self.left_out[found] += 1
            return None
        return found


def answer_parts(
    renderer: PromptRenderer, row: LabelledRow, rationale: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The ids of the right answer behind `<think>`: reasoning; its end, verdict and codes; the end token.

    Raises `TemplateError` for reasoning that cannot be encoded.
    """
    codes = f" {', '.join(row.codes)}" if row.codes else ""
    verdict = renderer.encoder.structure(renderer.template.answer_text(row.label) + codes)
    thought: tuple[int, ...] = ()
    if rationale.strip():
        (thought,) = renderer.encoder.plain([f" {rationale.strip()}"])
    return thought, verdict, renderer.eos_token_ids[:1]


def rationale_of(row: LabelledRow) -> str:
    """The row's own, or one that names the violated categories."""
    return (row.rationale or naming_rationale(row)).strip()


def naming_rationale(row: LabelledRow) -> str:
    """A rationale for a row whose source gives none: the violated categories by title and code.

    It shows the form of reasoning and no reason; what reasoning is worth is left to the rewards.
    """
    titles = {category.code: " ".join(category.title.split()) for category in row.policy.categories}
    if row.label == "safe":
        return "none of the categories."
    if not row.codes:
        return "one of the categories."
    return "; ".join(f"{titles[code]} {code}" for code in row.codes) + "."
