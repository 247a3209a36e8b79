"""Fits a question into prompts: whole, else with less context, else the message in text windows.

1. The whole conversation, when it fits.
2. The message and as many turns before it as fit, the newest ones, each of them whole.
3. The message alone, when it fits.
4. The message in overlapping text windows, each a prompt of its own, without context. There is a bound on
   their number, and a text that is beyond it for certain is not encoded to find that out.

What is cut leaves the rationale the room that it may want; what fits whole is not cut for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from guard.profiles.rendering import Renderer
from guard.prompt import Turn
from guard.serving.identity import JudgeLimits
from guard.text_windows import Span, most_tokens, text_windows
from schemas.identifiers import Mode, Role
from schemas.policy import Policy
from schemas.verdict import Unjudged

# A rationale gets at least so many tokens, or the prompt counts as too long for the model.
_SHORTEST_BUDGET_TOKENS: Final = 64
# Where something has to be cut anyway, the rationale keeps its whole budget, up to this share of the model's
# length: forced to an end after 64 tokens, a guard that reasons at length judges worse.
_RATIONALE_SHARE: Final = 4
# Bytes of UTF-8 that one token stands for: of English in a small vocabulary, and of Chinese in a large one.
# `estimate_tokens` errs upwards for most texts, and is short of texts that are made of rare characters.
_BYTES_PER_TOKEN: Final = 3
# Conversations up to so many characters are rendered on the event loop: 1 ms for English, 15 ms where each
# becomes eighteen in the normalizer. A longer one could hold the loop for as long as a full prompt takes.
_RENDERED_ON_LOOP_CHARACTERS: Final = 1000
# The mark, role and line break around the text of a turn, about.
_CHARACTERS_AROUND_TURN: Final = 24
# By how much windows are made smaller when one has more tokens by itself than as a part of the text.
_SHRINK_SHARE: Final = 8

Prompt = tuple[int, ...]


class Fitted(msgspec.Struct, frozen=True):
    """The prompts of a question. More than one: text windows of its message, newest first."""

    prompts: tuple[Prompt, ...]
    turns_left_out: int = 0
    """Turns before the message that stand in no prompt."""
    spans: tuple[Span, ...] = ()
    """Of text windows: the characters of the message that each prompt has."""


def answer_room(renderer: Renderer, limits: JudgeLimits) -> int:
    """Tokens of prompt and rationale together, such that an answer fits behind them."""
    return limits.max_model_len - len(renderer.forced_close) - limits.answer_tokens


def shown_in(fitted: Fitted, turns: Sequence[Turn], number: int) -> Sequence[Turn]:
    """The turns of which the prompt of a number was made."""
    if not fitted.spans:
        return turns[fitted.turns_left_out :]
    return (Turn(role=turns[-1].role, text=turns[-1].text[slice(*fitted.spans[number])]),)


class Fitting:
    """Makes the prompts. Has no state but a thread."""

    def __init__(self, renderer: Renderer, limits: JudgeLimits) -> None:
        self._renderer, self._limits = renderer, limits
        # One thread: long prompts take turns, and so do the CPU time and the memory that they need.
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="rsafe-prompts")
        self._frame_tokens = renderer.frame_tokens

    def close(self) -> None:
        self._rendering.shutdown(wait=False)

    async def fit(self, policy: Policy, turns: Sequence[Turn], mode: Mode) -> Fitted | Unjudged:
        """The prompts, or `prompt_too_long`. Long conversations are rendered beside the event loop."""
        characters = sum(len(turn.text) + _CHARACTERS_AROUND_TURN for turn in turns)
        if characters <= _RENDERED_ON_LOOP_CHARACTERS:
            prompt = self._renderer.render_within(policy, turns, self._rooms(mode)[0])
            if prompt is not None:
                return Fitted((prompt,), len(turns) - self._renderer.turns_read(turns))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._rendering, self.fit_now, policy, turns, mode)

    def fit_now(self, policy: Policy, turns: Sequence[Turn], mode: Mode) -> Fitted | Unjudged:
        """As `fit`, in this thread."""
        render, (room, cut_room) = self._renderer.render_within, self._rooms(mode)
        # Some formats have no place for all turns.
        unread = len(turns) - self._renderer.turns_read(turns)
        if unread:
            fitted = self.fit_now(policy, turns[unread:], mode)
            if isinstance(fitted, Unjudged):
                return fitted
            return msgspec.structs.replace(fitted, turns_left_out=fitted.turns_left_out + unread)
        prompt = render(policy, turns, room)
        if prompt is not None:
            return Fitted((prompt,))
        earlier = len(turns) - 1
        alone = render(policy, turns[-1:], room) if earlier else None
        if alone is None:
            return self._windows(policy, turns[-1], cut_room, earlier)
        # `kept` turns fit and `too_many` do not, until nothing is between them. Marks differ a little in
        # their tokens, so more than one number may be so; any such one will do.
        kept, too_many = 0, earlier
        while too_many - kept > 1:
            middle = (kept + too_many) // 2
            found = render(policy, turns[-1 - middle :], cut_room)
            if found is None:
                too_many = middle
            else:
                alone, kept = found, middle
        return Fitted((alone,), earlier - kept)

    async def of_each(self, policies: Sequence[Policy], turns: Sequence[Turn]) -> list[Prompt]:
        """A prompt of the same turns under each policy, which are known to fit; long ones beside the loop."""

        def now() -> list[Prompt]:
            return [self._renderer.render(policy, turns) for policy in policies]

        if sum(len(turn.text) for turn in turns) * len(policies) <= _RENDERED_ON_LOOP_CHARACTERS:
            return now()
        return await asyncio.get_running_loop().run_in_executor(self._rendering, now)

    def _rooms(self, mode: Mode) -> tuple[int, int]:
        """Tokens of a prompt of the whole conversation, and of one for which something was cut."""
        limits, length = self._limits, self._limits.max_model_len
        if mode == "fast":
            # An unsafe verdict is followed by its codes, where they are asked for.
            more = limits.category_scores or self._renderer.answers_in_full
            answer = limits.answer_tokens if more else 0
            room = length - len(self._renderer.fast_suffix) - 1 - answer
            return room, room
        room = answer_room(self._renderer, limits) - len(self._renderer.think_suffix)
        most = limits.think_budget_tokens
        wanted = max(_SHORTEST_BUDGET_TOKENS, length // _RATIONALE_SHARE)
        return room - min(most, _SHORTEST_BUDGET_TOKENS), room - min(most, wanted)

    def _windows(self, policy: Policy, message: Turn, room: int, earlier: int) -> Fitted | Unjudged:
        """A prompt for each text window, newest first, none of them over `room`, without `earlier` turns."""
        overlap, most = self._limits.text_window_overlap_tokens, self._limits.max_text_windows
        if most == 1:
            return _too_long("no room for an answer")
        size = self._window_size(policy, message, room)
        if size < 2 * overlap:
            return _too_long("no room for a text window")
        text, held = message.text, most_tokens(size=size, overlap=overlap, most=most)
        starts = self._renderer.encoder.token_starts(text, held)
        while starts is not None and size >= 2 * overlap:
            spans = text_windows(text, starts, size=size, overlap=overlap, most=most)
            if spans is None:
                break
            prompts = [self._render(policy, message.role, text[start:end], room) for start, end in spans]
            fitting = tuple(prompt for prompt in prompts if prompt is not None)
            if len(fitting) == len(prompts):
                return Fitted(fitting, earlier, tuple(spans))
            size -= max(1, size // _SHRINK_SHARE)
        return _too_long("too many text windows")

    def _window_size(self, policy: Policy, message: Turn, room: int) -> int:
        """Tokens of text for which a prompt has room; 0 or less: for none."""
        empty = self._render(policy, message.role, "", room)
        # The mark of a window may have more tokens than that of no text; it stands there twice.
        return 0 if empty is None else room - len(empty) - self._renderer.mark_tokens

    def _render(self, policy: Policy, role: Role, text: str, room: int) -> Prompt | None:
        return self._renderer.render_within(policy, (Turn(role=role, text=text),), room)

    def estimate_tokens(self, policy: Policy, turns: Sequence[Turn], mode: Mode) -> int:
        """About how many tokens the prompts have, all together, without rendering them."""
        described = _tokens(t for c in policy.categories for t in (c.title, c.definition, *c.exceptions))
        # Around a category stand its code, perhaps several times, and a line break.
        around = _CHARACTERS_AROUND_TURN // _BYTES_PER_TOKEN
        frame = self._frame_tokens + described + around * (len(policy.categories) + 1)
        message = _tokens([turns[-1].text])
        room, cut_room = self._rooms(mode)
        if frame + message <= room:
            context = _tokens(turn.text for turn in turns[:-1]) + around * (len(turns) - 1)
            return min(frame + message + context, room)
        overlap, most = self._limits.text_window_overlap_tokens, self._limits.max_text_windows
        size = cut_room - frame
        if size < 2 * overlap:
            return max(room, 1)
        windows = min(most, 1 - (size - message) // (size - overlap))
        return min(message + (windows - 1) * overlap + windows * frame, windows * cut_room)


def _tokens(texts: Iterable[str]) -> int:
    size = sum(len(t) if t.isascii() else len(t.encode(errors="surrogatepass")) for t in texts)
    return size // _BYTES_PER_TOKEN + 1


def _too_long(detail: str) -> Unjudged:
    return Unjudged(reason="prompt_too_long", detail=detail)
