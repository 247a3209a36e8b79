"""Where the text windows of a message stand that is too long for one prompt.

Windows are counted in tokens of the guard's own tokenizer and cut between them. They go from the end of the
text to its beginning, and each one shares tokens with the one after it: whatever is no longer than the
overlap stands whole in at least one of them, wherever it stands in the text.

>>> text_windows("one two three four", [0, 3, 7, 13], size=2, overlap=1, most=9)
[(7, 18), (3, 13), (0, 7)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# So far a cut is moved to stand between two words: half a word may read like a whole one. The reach is this
# share of the overlap, so that windows do not become much smaller by it. Scripts without spaces are cut
# between any two tokens.
_REACH_SHARE: Final = 8

Span = tuple[int, int]
"""First character of a window, and the one after its last."""


def text_windows(
    text: str, starts: Sequence[int], *, size: int, overlap: int, most: int
) -> list[Span] | None:
    """The windows, newest (last) first; None when more than `most` would be needed.

    `starts`: the character at which each token begins, in order. No window has more than `size` tokens, and
    `size` is at least twice the `overlap`. Any part of the text that touches at most `overlap` tokens stands
    whole in one window, and every character in at least one. None too where a single character has so many
    tokens that windows would not come forward.
    """
    spans: list[Span] = []
    reach = overlap // _REACH_SHARE
    end, last = len(text), len(starts)
    while len(spans) < most:
        first = _cut(text, starts, last - size, reach)
        if first <= 0:
            spans.append((0, end))
            return spans
        before = _cut(text, starts, first + overlap, reach)
        if before >= last:
            break
        spans.append((starts[first], end))
        end, last = starts[before], before
    return None


def most_tokens(*, size: int, overlap: int, most: int) -> int:
    """Tokens that so many windows hold at most: each one after the first brings `size - overlap` new ones."""
    return size + (most - 1) * (size - overlap)


def _cut(text: str, starts: Sequence[int], token: int, reach: int) -> int:
    """The token from `token` on before which to cut: between two words within reach, else between two
    characters, since one character may be many tokens. 0 for anything before the first."""
    if token <= 0:
        return 0
    while token < len(starts) and starts[token] == starts[token - 1]:
        token += 1
    for candidate in range(token, min(token + reach + 1, len(starts))):
        at = starts[candidate]
        if starts[candidate - 1] < at and (text[at].isspace() or text[at - 1].isspace()):
            return candidate
    return token
