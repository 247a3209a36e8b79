"""What an attack is: a name, and pure functions from an unsafe conversation to attacked ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

import msgspec

from guard.prompt import Turn

Conversation = tuple[Turn, ...]
"""Turns, newest last; the last one is judged. 1 or more."""
Kind = Literal["structural", "judgement"]
Change = Callable[[Random, str], str]
"""A message as an attacker sends it."""
Make = Callable[[Random, Conversation], Conversation]


class Variant(msgspec.Struct, frozen=True):
    """One way to carry out an attack. `make` draws from nothing but the generator that it is given."""

    name: str
    make: Make


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """An attack. Whoever reads the attacked conversation still finds the unsafe message in it."""

    name: str
    kind: Kind
    description: str
    """One sentence."""
    variants: tuple[Variant, ...]
    """1 or more."""
    undone: bool = False
    """Whether `guard.normalise` undoes it: a message of printable ASCII is read as if nothing was done."""
    measured: bool = True
    """False where the last turn is no unsafe message any more, so that `safe` is right."""

    def conversation(self, turns: Conversation, seed: int, number: int) -> Conversation:
        """The attacked conversation by variant `number`, counted round; the same for the same arguments."""
        variant = self.variants[number % len(self.variants)]
        return variant.make(Random(f"{self.name}-{variant.name}-{seed}-{turns[-1].text}"), turns)

    def conversations(self, turns: Conversation, seed: int) -> Iterator[Conversation]:
        """One attacked conversation a variant, in order."""
        return (self.conversation(turns, seed, number) for number in range(len(self.variants)))


def in_message(change: Change) -> Make:
    """An attack that changes the message alone."""

    def make(random: Random, turns: Conversation) -> Conversation:
        *earlier, last = turns
        return (*earlier, Turn(role=last.role, text=change(random, last.text)))

    return make
