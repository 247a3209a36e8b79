"""What serving needs of a renderer, whatever the profile, and which one a checkpoint gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from guard.answer import Answer, Unparseable
from guard.profiles.profile import Profile
from guard.profiles.renderer import FormatRenderer
from guard.prompt import PromptParts, PromptRenderer, PromptTemplate, Turn, VerdictTokens
from guard.prompt_encoding import TextEncoder
from schemas.identifiers import Label
from schemas.policy import Policy


class Renderer(Protocol):
    """Questions → prompts, and completions → answers, for one tokenizer and one profile. Thread-safe."""

    profile: Profile
    encoder: TextEncoder
    fast_suffix: tuple[int, ...]
    """Behind a prompt, so that the next id is the verdict: nothing was reasoned."""
    think_suffix: tuple[int, ...]
    """Behind a prompt, so that the reasoning goes on from there."""
    forced_close: tuple[int, ...]
    """Behind a reasoning, so that the next id is the verdict."""
    think_close_ids: tuple[int, ...]
    verdict_tokens: VerdictTokens
    opening_ids: tuple[int, ...]
    """The end of every prompt, where it is the same for all."""
    eos_token_ids: tuple[int, ...]
    answers_in_full: bool
    """Whether the whole answer is asked for without reasoning, and not the first id of the verdict alone."""

    @property
    def template_version(self) -> str: ...
    @property
    def frame_tokens(self) -> int:
        """Tokens of a prompt without policy and turns, about."""
        ...

    @property
    def mark_tokens(self) -> int:
        """Tokens by which a prompt may be longer for another text of the same length."""
        ...

    def render(self, policy: Policy, turns: Sequence[Turn]) -> tuple[int, ...]:
        """The prompt's ids. The last turn is the one to judge."""
        ...

    def render_within(
        self, policy: Policy, turns: Sequence[Turn], room: int | None
    ) -> tuple[int, ...] | None:
        """As `render`, or None when the prompt has more than `room` ids."""
        ...

    def parts(self, policy: Policy, turns: Sequence[Turn]) -> PromptParts:
        """What `render` gives, in its parts."""
        ...

    def system_of(self, policy: Policy) -> tuple[int, ...]:
        """The ids with which prompts under the policy begin."""
        ...

    def turns_read(self, turns: Sequence[Turn]) -> int:
        """How many of the last turns can stand in a prompt; 1 or more."""
        ...

    def questions(self, policy: Policy) -> tuple[Policy, ...]:
        """The policies of the calls that a judgement needs: itself, or one a category, in canonical order."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, without the end tokens after it."""
        ...

    def closes(self, ids: Sequence[int]) -> bool:
        """Whether the reasoning ends somewhere in these ids."""
        ...

    def read(self, ids: Sequence[int], policy: Policy) -> Answer | Unparseable:
        """What a completion says under the policy."""
        ...

    def answer_ids(self, label: Label) -> tuple[int, ...]:
        """The end of the reasoning, where there is one, and an answer."""
        ...


def make_renderer(folder: Path, template: PromptTemplate, secret: bytes, profile: Profile) -> Renderer:
    """The renderer of a profile over the folder's tokenizer; `template` and `secret` are for our own prompt.

    Raises `TemplateError` for a tokenizer or chat template that the profile cannot use.
    """
    if profile.format is not None:
        return FormatRenderer(folder, profile, profile.format)
    return PromptRenderer(folder, template, secret, profile)
