"""A format's layout over a tokenizer, cut at its slots: what is structure, and what is encoded with a text.

Structure is encoded with the added vocabulary. What stands on a slot's own line before it (`User: `), without
added tokens, and the white space after it are left to be encoded with the slot's text.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from threading import Lock
from typing import Final

from guard.errors import TemplateError
from guard.profiles.format import SLOT, Format, Shape
from guard.prompt_encoding import TextEncoder
from schemas.identifiers import Role, Way

# A skeleton is some hundred ids; conversations differ in their orders of roles.
_KEPT: Final = 512
_LINE: Final = re.compile(r"[^\n]*\Z")
_SPACE: Final = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Place:
    """A slot in a prompt, with the structure before it and the plain words around it."""

    before: tuple[int, ...]
    name: str
    lead: str
    trail: str


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A prompt of some order of roles without its texts."""

    places: tuple[Place, ...]
    ending: tuple[int, ...]
    """Structure after the last slot, up to the answer or to what differs between the ways of asking."""
    first: int
    """Number of the oldest turn that stands in it; -1: a user's blank turn stands before the only one."""
    tails: tuple[tuple[int, ...], tuple[int, ...]]
    """What follows when asked without and with reasoning; both empty where it is the same."""


class Skeletons:
    """The skeletons of a format, made as orders of roles turn up. Thread-safe: what is kept has a lock."""

    def __init__(
        self, of: Format, ways: Sequence[Way], encoder: TextEncoder, chat: Callable[..., str] | None
    ) -> None:
        self._format, self._ways, self._encoder, self._chat = of, ways, encoder, chat
        self._lock = Lock()
        self._made: OrderedDict[tuple[Role, ...], Skeleton] = OrderedDict()
        self._tails: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self._tails = self.of(("user",)).tails
        self.of(("assistant",))

    def of(self, roles: tuple[Role, ...]) -> Skeleton:
        """The skeleton of turns by these roles, oldest first; 1 or more. Raises `TemplateError`."""
        with self._lock:
            found = self._made.get(roles)
            if found is None:
                found = self._made[roles] = self._make(roles)
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            return found

    def _make(self, roles: tuple[Role, ...]) -> Skeleton:
        """With as many of the last turns as the format can show; a response alone answers a blank prompt."""
        for first in range(len(roles)):
            found = self._cut(roles[first:], first)
            if found is not None:
                return found
        found = self._cut(("user", "assistant"), -1) if roles[-1] == "assistant" else None
        if found is None or len([p for p in found.places if p.name.isdigit()]) < 2:
            raise TemplateError(
                f"the chat template shows no conversation that ends in a message of the role {roles[-1]}"
            )
        return found

    def _cut(self, roles: tuple[Role, ...], first: int) -> Skeleton | None:
        texts = [self._format.layout(Shape(roles, way == "think", self._chat)) for way in self._ways]
        split = [SLOT.split(text) for text in texts]
        names = split[0][1::2]
        shown = [int(name) for name in names if name.isdigit()]
        if not shown or shown != list(range(shown[0], len(roles))) or len(set(names)) != len(names):
            return None
        if any(other[:-1] != split[0][:-1] for other in split):
            raise TemplateError(
                "the chat template asks for reasoning before the conversation, and not behind"
            )
        if first < 0 and shown[0]:
            return None
        parts, places = split[0], []
        rest = parts[0]
        for number, name in enumerate(names):
            after = parts[2 * number + 2]
            trail = _SPACE.match(after)
            assert trail is not None
            lead = self._lead(rest)
            places.append(
                Place(self._encoder.structure(rest[: len(rest) - len(lead)]), name, lead, trail.group())
            )
            rest = after[trail.end() :]
        # Ids of turns that are left out are not counted: places say which turn of those that are kept.
        kept = tuple(
            Place(p.before, str(int(p.name) - shown[0]) if p.name.isdigit() else p.name, p.lead, p.trail)
            for p in places
        )
        ends = [text[-1][len(places[-1].trail) :] for text in split]
        ending, *tails = self._parted(ends)
        pair = (tails[0], tails[-1])
        if self._tails not in (None, pair):
            raise TemplateError("the chat template ends otherwise in another order of roles")
        number = first if first < 0 else first + shown[0]
        return Skeleton(kept, ending, number, pair)

    def _parted(self, ends: Sequence[str]) -> list[tuple[int, ...]]:
        """What follows the last slot in all ways of asking, and then in each, cut behind an added token."""
        if len(set(ends)) == 1:
            return [self._encoder.structure(ends[0]), *[()] * len(ends)]
        same = takewhile(lambda column: len(set(column)) == 1, zip(*ends, strict=False))
        common = "".join(column[0] for column in same)
        behind = [
            common.rfind(token) + len(token) for token in self._encoder.added_strings if token in common
        ]
        at = max(behind, default=0)
        return [self._encoder.structure(common[:at]), *(self._encoder.structure(end[at:]) for end in ends)]

    def _lead(self, before: str) -> str:
        """Of the structure before a slot, what is encoded with its text: its line, without added tokens."""
        found = _LINE.search(before)
        line = found.group() if found is not None else ""
        for token in self._encoder.added_strings:
            if token in line:
                line = line[line.rindex(token) + len(token) :]
        return line
