"""The hand-written attacks: `texts.jsonl`, one a line.

`text` is the attacked message: `{message}` stands for the message, `{mark}` for a guessed boundary mark and
`{MARK}` for the same in capitals. `before` are turns that the attacker puts before it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import msgspec

from guard.prompt import Turn
from guard.training.attacks.attack import Conversation, Variant
from guard.training.generator.words import wrong_nonce

_FILE = Path(__file__).parent / "texts.jsonl"
# Lengths of the marks of the shipped templates.
_MARK_LENGTHS = (6, 16)


class WrittenAttack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line."""

    attack: str
    variant: str
    text: str
    before: tuple[Turn, ...] = ()

    def make(self, random: Random, turns: Conversation) -> Conversation:
        """The attacked conversation."""
        mark = wrong_nonce(random, random.choice(_MARK_LENGTHS))
        *earlier, last = turns
        text = self.text.replace("{mark}", mark).replace("{MARK}", mark.upper())
        text = text.replace("{message}", last.text)
        return (*earlier, *self.before, Turn(role=last.role, text=text))


@cache
def written_attacks() -> tuple[WrittenAttack, ...]:
    """All lines, in order."""
    return tuple(msgspec.json.decode(line, type=WrittenAttack) for line in _FILE.read_bytes().splitlines())


def written(attack: str) -> tuple[Variant, ...]:
    """The variants of one attack that are written by hand."""
    return tuple(Variant(one.variant, one.make) for one in written_attacks() if one.attack == attack)
