"""What the guard read: the prompts of one judgement taken apart, and what was made of the texts before.

Nothing is rendered anew in another way: the parts come from the renderer that made the prompts, and their ids
are those that were asked.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Final

import msgspec

from guard.profiles.rendering import Renderer
from guard.prompt import PromptParts, Turn
from guard.serving.judge import Seen
from guard.serving.question import Question
from guard.text_windows import Span
from schemas.identifiers import Role

# A text may hold a thousand kinds of characters that are written otherwise; the most frequent ones tell.
_MOST_CHARACTERS: Final = 8


class TurnRead(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a turn."""

    role: Role
    judged: bool
    """The last turn; the others help to understand it."""
    kept: bool
    """Whether it stands in a prompt, whole or in text windows."""
    tokens: int | None
    """With its mark and role; None where it was left out or is in text windows."""
    characters: int
    """Of the text as it came."""
    characters_read: int
    """Of the text as the guard reads it, normalised."""
    gone: dict[str, int]
    """Characters that the normaliser took out or wrote otherwise, by name, with how many; the commonest."""
    new: dict[str, int]
    """Characters that the normaliser wrote instead."""


class PromptRead(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt, as text. Every boundary mark in it is written `PromptsRead.mark`."""

    tokens: int
    """All of it, policy and opening included."""
    span: Span | None
    """Of a text window: its first character in the message as read, and the one after its last."""
    conversation: str


class PromptsRead(msgspec.Struct, frozen=True, kw_only=True):
    """What one judgement read. Without `prompts` nothing was asked, since the question does not fit."""

    turns: tuple[TurnRead, ...]
    system: str
    """Task and policy, with the chat structure around them: the beginning of every prompt."""
    system_tokens: int
    opening: str
    """The assistant's turn that the model goes on with: the end of every prompt."""
    opening_tokens: int
    mark: str
    """Stands for the boundary marks."""
    prompts: tuple[PromptRead, ...]


def explain(renderer: Renderer, question: Question, came: Sequence[Turn], seen: Seen | None) -> PromptsRead:
    """What was read for the question; `came` are its turns before they were normalised."""
    policy, turns = question.policy, question.turns
    fitted = None if seen is None else seen.fitted
    left_out = len(turns) if fitted is None else fitted.turns_left_out
    spans: Sequence[Span | None] = () if fitted is None else (fitted.spans or (None,) * len(fitted.prompts))
    parts = [renderer.parts(policy, _turns_of(turns, span, left_out)) for span in spans]
    if fitted is not None and [one.ids for one in parts] != list(fitted.prompts):
        raise AssertionError("the prompts taken apart are not those that were asked")
    in_windows = fitted is not None and bool(fitted.spans)
    whole = [None] * len(turns) if in_windows or not parts else [len(ids) for ids in parts[0].turns]
    tokens = [None] * (len(turns) - len(whole)) + whole
    decode = renderer.encoder.decode
    conversations = [[decode(piece) for piece in (*one.turns, one.ending)] for one in parts]
    mark = _stand_in(conversations)
    system = renderer.system_of(policy)
    return PromptsRead(
        turns=tuple(
            _turn(before, after, number == len(turns) - 1, number >= left_out, tokens[number])
            for number, (before, after) in enumerate(zip(came, turns, strict=True))
        ),
        system=decode(system),
        system_tokens=len(system),
        opening=decode(renderer.opening_ids),
        opening_tokens=len(renderer.opening_ids),
        mark=mark,
        prompts=tuple(
            PromptRead(tokens=len(one.ids), span=span, conversation=_with_stand_in(one, pieces, mark))
            for one, pieces, span in zip(parts, conversations, spans, strict=True)
        ),
    )


def _turns_of(turns: Sequence[Turn], span: Span | None, left_out: int) -> Sequence[Turn]:
    if span is None:
        return turns[left_out:]
    return (Turn(role=turns[-1].role, text=turns[-1].text[slice(*span)]),)


def _turn(before: Turn, after: Turn, judged: bool, kept: bool, tokens: int | None) -> TurnRead:
    came, read = Counter(before.text), Counter(after.text)
    return TurnRead(
        role=before.role,
        judged=judged,
        kept=kept,
        tokens=tokens,
        characters=len(before.text),
        characters_read=len(after.text),
        gone=_named(came - read),
        new=_named(read - came),
    )


def _named(characters: Counter[str]) -> dict[str, int]:
    return {
        f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}": number
        for character, number in characters.most_common(_MOST_CHARACTERS)
    }


def _stand_in(conversations: Sequence[Sequence[str]]) -> str:
    """What is written for boundary marks: something that no text holds, or a text could show false ones."""
    for number in count(1):
        stand_in = "[mark]" if number == 1 else f"[mark {number}]"
        if not any(stand_in in piece for pieces in conversations for piece in pieces):
            return stand_in
    raise AssertionError  # texts are finite


def _with_stand_in(parts: PromptParts, pieces: Sequence[str], mark: str) -> str:
    # The mark stands at one place in a turn, and in none of its texts.
    return "".join(piece.replace(parts.mark, mark) if parts.mark else piece for piece in pieces)
