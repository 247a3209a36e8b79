"""Prompt and answer within their limits: what is longer is dropped and counted, never cut."""

from __future__ import annotations

from collections.abc import Sequence

from guard.errors import TemplateError
from guard.prompt import PromptRenderer
from guard.training.data.drafts import Draft, Drops, without
from guard.training.data.rows import LabelledRow
from guard.training.row_encoding import answer_parts


def within_lengths(
    drafts: Sequence[Draft],
    renderer: PromptRenderer,
    max_prompt_tokens: int,
    max_completion_tokens: int,
    drops: Drops,
) -> tuple[list[Draft], dict[str, int]]:
    """The drafts that fit, as serving renders them, and by row id how many tokens the prompts have.

    `prompt_too_long`, `answer_too_long` and `not_encodable` (a tokenizer may find no way to keep a text free
    of its added vocabulary) count the others; both twins of a pair go together.
    """
    prompts: dict[str, int] = {}
    gone: dict[str, set[str]] = {"not_encodable": set(), "prompt_too_long": set(), "answer_too_long": set()}
    for draft in drafts:
        row = draft.row
        try:
            prompt = renderer.render_within(row.policy, row.turns, max_prompt_tokens)
            if prompt is None:
                gone["prompt_too_long"].add(row.id)
            elif answer_tokens(renderer, row) > max_completion_tokens:
                gone["answer_too_long"].add(row.id)
            else:
                prompts[row.id] = len(prompt)
        except TemplateError:
            gone["not_encodable"].add(row.id)
    kept = list(drafts)
    for reason, ids in gone.items():
        kept = without(kept, ids, drops, reason)
    return kept, {draft.row.id: prompts[draft.row.id] for draft in kept}


def answer_tokens(renderer: PromptRenderer, row: LabelledRow) -> int:
    """Tokens of the whole answer as the warm start teaches it: reasoning, its end, verdict, codes, end token.

    Raises `TemplateError` for reasoning that cannot be encoded.
    """
    return sum(map(len, answer_parts(renderer, row, row.rationale)))
