"""What a guard is asked."""

from __future__ import annotations

from typing import Final

import msgspec

from guard.prompt import Turn
from guard.scores import RawBand
from schemas.identifiers import Mode
from schemas.policy import Policy

MODES: Final[tuple[Mode, ...]] = ("think", "fast", "adaptive")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: whether the last turn breaks the policy."""

    policy: Policy
    turns: tuple[Turn, ...]
    """The conversation, newest last; 1 or more."""
    mode: Mode
    uncertain: RawBand | None = None
    """With `adaptive`: the fast scores at which it thinks; None: at all of them. Others pass it over."""
