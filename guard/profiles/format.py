"""A prompt in the words of a guard's maker, before there is a tokenizer.

A layout writes the whole prompt with stand-ins where texts come: `slot(0)` for the first turn, `slot("name")`
for a part of the policy. The renderer cuts it there. What stands between is trusted and becomes structure;
what comes into a slot is encoded without the added vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.identifiers import Role
from schemas.policy import Policy

SLOT: Final = re.compile(r"RSAFEslot([0-9A-Za-z]+)RSAFE")


def slot(name: int | str) -> str:
    """The stand-in for a turn (by number, the oldest is 0) or for a part of the policy (by name)."""
    return f"RSAFEslot{name}RSAFE"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a layout knows of a question: everything but its texts."""

    roles: tuple[Role, ...]
    """Of the turns, oldest first; the last one is judged."""
    think: bool
    """Whether the guard is to reason."""
    chat: Callable[..., str] | None
    """The checkpoint's chat template (`own_template`), "" where it refuses; None: not asked for."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The turns as chat templates take them."""
        return [{"role": role, "content": slot(number)} for number, role in enumerate(self.roles)]


Layout = Callable[[Shape], str]
"""The prompt with stand-ins, up to where the guard goes on; "" for turns that it cannot show so. It may leave
out the oldest turns; the last one stands in it."""
Fill = Callable[[Policy, Mapping[str, tuple[str, ...]]], dict[str, str]]
"""The policy, and what the guard's codes mean under it → text of each named slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a prompt is made, and where the verdict is decided."""

    version: str
    """`template_version` of decisions."""
    layout: Layout
    fill: Fill
    safe: str
    """The shortest answer that says `safe`, from where a verdict begins."""
    unsafe: str
    """One that says `unsafe`."""
    also_safe: tuple[str, ...] = ()
    """Other answers that count as `safe` by the profile's rule."""
    also_unsafe: tuple[str, ...] = ()
    fast_lead: str = ""
    """What is put before a verdict without reasoning."""
    think_open: str = ""
    think_close: str = ""
    """What ends the reasoning; a verdict follows."""
    in_full: bool = False
    """Whether the whole answer is asked for without reasoning; else its first decisive token is enough."""
    own_template: bool = False
    """Whether the layout needs the checkpoint's chat template."""
