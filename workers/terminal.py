"""Text from elsewhere, made harmless for a terminal; and the colours of what was decided."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

ACTION_STYLES: Final[Mapping[str, str]] = {
    "block": "bold red",
    "flag": "yellow",
    "review": "magenta",
    "allow": "green",
}
"""By action, in the words of `rich`."""

# Control characters move the cursor or start escape sequences; format characters (bidirectional overrides,
# zero-width joiners) let a line show other than what it holds; separators break it; surrogates are no text.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def harmless(text: str) -> str:
    r"""The text in one line, with every character that is no plain text written as an escape.

    >>> harmless("red \x1b[31m")
    'red \\x1b[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode("ascii")
