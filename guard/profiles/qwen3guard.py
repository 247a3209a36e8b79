r"""Qwen3Guard-Gen: `Safety: Safe`, `Controversial` or `Unsafe`, then a line of categories.

The prompt is the checkpoint's own chat template (Qwen/Qwen3Guard-Gen-0.6B, -4B and -8B of September 2025),
which holds a fixed policy of nine categories; the answer is as on the model card. `Jailbreak` is only looked
for in messages of users. A line `Refusal:` follows when the assistant's message is judged; nothing is made of
it.

What `Controversial` counts as is the profile's rule, and p(unsafe) follows it: `qwen3guard-gen` takes it for
unsafe (the report's strict mode: its probability is added to that of `Unsafe`), `qwen3guard-gen-loose` for
safe. The rationale says when it was the model's word.

>>> read_strict("Safety: Controversial\nCategories: PII", ["PII"])
Answer(label='unsafe', codes=('PII',), rationale='Controversial')
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from guard.answer import Answer, Unparseable
from guard.profiles.format import Format, Shape
from guard.profiles.profile import EVERYBODY, Profile, Read, Taxonomy
from schemas.policy import Policy

_CATEGORIES: Final = (
    "Violent",
    "Non-violent Illegal Acts",
    "Sexual Content or Sexual Acts",
    "PII",
    "Suicide & Self-Harm",
    "Unethical Acts",
    "Politically Sensitive Topics",
    "Copyright Violation",
    "Jailbreak",
)
_ONLY_USERS: Final = frozenset({"Jailbreak"})
_ANSWER: Final = re.compile(
    r"Safety: (Safe|Controversial|Unsafe)[ ]*\n+Categories: ([^\n]+)(?:\n+Refusal: (?:Yes|No))?[ ]*"
)


def read_strict(text: str, codes: Collection[str]) -> Answer | Unparseable:
    """The answer; `Controversial` is unsafe. Never raises."""
    return _read(text, codes, controversial="unsafe")


def read_loose(text: str, codes: Collection[str]) -> Answer | Unparseable:
    """The answer; `Controversial` is safe, and its categories are not reported. Never raises."""
    return _read(text, codes, controversial="safe")


def _read(text: str, codes: Collection[str], *, controversial: str) -> Answer | Unparseable:
    text = text.strip()
    if not text:
        return Unparseable("empty", "the completion is empty")
    if text.count("Safety:") > 1:
        return Unparseable("several_verdicts", "more than one verdict")
    if re.match(r"Safety: (?:Safe|Controversial|Unsafe)(?![^\s])", text) is None:
        return Unparseable("no_verdict", "the first line is no verdict")
    found = _ANSWER.fullmatch(text)
    if found is None:
        return Unparseable("trailing_text", "the lines after the verdict are not those of the grammar")
    word, listed = found[1], found[2].strip()
    names = [] if listed == "None" else [name.strip() for name in listed.split(",")]
    if any(name not in codes for name in names):
        return Unparseable("unknown_category", "a category that the guard does not have")
    if word == "Safe":
        return (
            Unparseable("codes_on_safe", "a safe verdict with categories")
            if names
            else Answer("safe", (), "")
        )
    if not names:
        return Unparseable("no_codes", "an unsafe verdict without categories")
    if word == "Controversial" and controversial == "safe":
        return Answer("safe", (), word)
    return Answer("unsafe", tuple(dict.fromkeys(names)), "" if word == "Unsafe" else word)


def _layout(shape: Shape) -> str:
    assert shape.chat is not None
    return shape.chat(shape.messages)


def _nothing(_: Policy, __: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {}


def _profile(name: str, read: Read, *, controversial_is_safe: bool) -> Profile:
    third = ("Safety: Controversial\nCategories: Violent",)
    return Profile(
        name=name,
        grammar=f"{name}-lines-1",
        read=read,
        modes=("fast",),
        taxonomy=Taxonomy(
            "qwen3guard",
            {c: frozenset({"user"}) if c in _ONLY_USERS else EVERYBODY for c in _CATEGORIES},
        ),
        answer_tokens=96,
        format=Format(
            version="qwen3guard-gen-own-template-1",
            layout=_layout,
            fill=_nothing,
            safe="Safety: Safe\nCategories: None",
            unsafe="Safety: Unsafe\nCategories: Violent",
            also_safe=third if controversial_is_safe else (),
            also_unsafe=() if controversial_is_safe else third,
            in_full=True,
            own_template=True,
        ),
    )


QWEN3GUARDS: Final = (
    _profile("qwen3guard-gen", read_strict, controversial_is_safe=False),
    _profile("qwen3guard-gen-loose", read_loose, controversial_is_safe=True),
)
