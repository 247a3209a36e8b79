"""Prompt and answer within their limits: what is longer is dropped and counted, never cut."""

from __future__ import annotations

from collections.abc import Sequence

from guard.prompt import PromptRenderer
from guard.training.data.drafts import Draft, Drops, without
from guard.training.data.rows import LabelledRow


def within_lengths(
    drafts: Sequence[Draft],
    renderer: PromptRenderer,
    max_prompt_tokens: int,
    max_completion_tokens: int,
    drops: Drops,
) -> tuple[list[Draft], dict[str, int]]:
    """The drafts that fit, as serving renders them, and by row id how many tokens the prompts have.

    `prompt_too_long` and `answer_too_long` count the others; both twins of a pair go together.
    """
    too_long: set[str] = set()
    prompts: dict[str, int] = {}
    for draft in drafts:
        prompt = renderer.render_within(draft.row.policy, draft.row.turns, max_prompt_tokens)
        if prompt is None:
            too_long.add(draft.row.id)
        else:
            prompts[draft.row.id] = len(prompt)
    drafts = without(drafts, too_long, drops, "prompt_too_long")
    talkative = {
        draft.row.id for draft in drafts if answer_tokens(renderer, draft.row) > max_completion_tokens
    }
    kept = without(drafts, talkative, drops, "answer_too_long")
    return kept, {draft.row.id: prompts[draft.row.id] for draft in kept}


def answer_tokens(renderer: PromptRenderer, row: LabelledRow) -> int:
    """Tokens of the whole answer: reasoning, its end, verdict, codes and the end of the turn."""
    (reasoning,) = renderer.encoder.plain([row.rationale])
    codes = "".join(f" {code}" for code in row.codes)
    verdict = renderer.encoder.structure(renderer.template.answer_text(row.label) + codes)
    return len(reasoning) + len(verdict) + 1
