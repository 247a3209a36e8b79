r"""Completion → answer, or the reason why not; serving and rewards both use it.

The reasoning ends once, in `</think>`; what stands after it must be a verdict and nothing else. Whatever is
not understood is `Unparseable` with a stable reason, never `safe`.

>>> parse_answer(r" casino C3 listed.</think>\boxed{unsafe} c3", ["C3"])
Answer(label='unsafe', codes=('C3',), rationale='casino C3 listed.')
>>> parse_answer(r"fine.</think>\boxed{safe}, I think", ["C3"]).reason
'trailing_text'
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import msgspec

Reason = Literal[
    "empty",
    "no_think_close",
    "several_think_closes",
    "no_verdict",
    "several_verdicts",
    "codes_on_safe",
    "no_codes",
    "unknown_category",
    "trailing_text",
]


class AnswerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The grammar of an answer; other guards answer in other forms."""

    name: str
    think_close: str
    safe: str
    unsafe: str
    any_verdict: str
    """A regular expression of everything that looks like a verdict."""


RSAFE_PROFILE = AnswerProfile(
    name="rsafe-boxed-1",
    think_close="</think>",
    safe=r"\boxed{safe}",
    unsafe=r"\boxed{unsafe}",
    any_verdict=r"\\boxed\s*\{",
)


class Answer(msgspec.Struct, frozen=True):
    """What the guard said. `codes` are spelled as in the policy, each once, in the order of the answer."""

    label: Literal["safe", "unsafe"]
    codes: tuple[str, ...]
    rationale: str


class Unparseable(msgspec.Struct, frozen=True):
    """An answer that is none. `detail` is a constant sentence: it never quotes the completion."""

    reason: Reason
    detail: str


_SEPARATORS = re.compile(r"[\s,]+")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,15}")


def parse_answer(
    text: str, codes: Collection[str], profile: AnswerProfile = RSAFE_PROFILE
) -> Answer | Unparseable:
    """Read a completion (everything after our `<think>`); `codes` are the policy's. Never raises."""
    if not text.strip():
        return Unparseable("empty", "the completion is empty")
    rationale, closed, ending = text.partition(profile.think_close)
    if not closed:
        return Unparseable("no_think_close", "the reasoning was not closed")
    if profile.think_close in ending:
        # Two verdicts may stand in it, one of them taken back: none is chosen.
        return Unparseable("several_think_closes", "the reasoning was closed more than once")
    ending = ending.strip()
    verdicts = len(re.findall(profile.any_verdict, ending))
    if verdicts > 1:
        return Unparseable("several_verdicts", "more than one verdict after the reasoning")
    rationale = rationale.strip()
    if ending.startswith(profile.unsafe):
        return _unsafe(ending.removeprefix(profile.unsafe), codes, rationale)
    if ending.startswith(profile.safe):
        rest = ending.removeprefix(profile.safe)
        if not rest:
            return Answer("safe", (), rationale)
        if _known(rest, codes) is not None:
            return Unparseable("codes_on_safe", "a safe verdict followed by category codes")
        return Unparseable("trailing_text", "text after the verdict")
    if verdicts:
        return Unparseable("no_verdict", "a malformed verdict, or text before it")
    return Unparseable("no_verdict", "no verdict after the reasoning")


def _unsafe(rest: str, codes: Collection[str], rationale: str) -> Answer | Unparseable:
    if not rest:
        return Answer("unsafe", (), rationale)
    if rest[0] not in " ,\t\n":
        return Unparseable("trailing_text", "text after the verdict")
    found = _known(rest, codes)
    if found is not None:
        return Answer("unsafe", found, rationale)
    words = [word for word in _SEPARATORS.split(rest) if word]
    if words and all(_CODE.fullmatch(word) for word in words) and len(words) <= len(codes):
        return Unparseable("unknown_category", "a category code that the policy does not have")
    return Unparseable("trailing_text", "text after the verdict")


def _known(rest: str, codes: Collection[str]) -> tuple[str, ...] | None:
    """The policy's spelling of each code in `rest`, or None when anything else stands there."""
    spelling = {code.casefold(): code for code in codes}
    words = [word.casefold() for word in _SEPARATORS.split(rest) if word]
    if not words or any(word not in spelling for word in words):
        return None
    return tuple(dict.fromkeys(spelling[word] for word in words))
