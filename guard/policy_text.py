"""How a category's definition stands in a prompt whose model looks words up.

A code after every phrase lets one look-up find whether a word is listed and where. Phrases are the pieces
between `;`; a definition without one is read as prose, in which commas, `or` and `and` part the phrases. What
follows `except`, `but` and the like to the end of its sentence is no phrase of the category and gets no code.

>>> with_codes("casino; poker", "C3")
'casino C3 poker C3'
>>> with_codes("Messages that name casinos, poker or dice, except bingo.", "C3")
'Messages that name casinos C3 poker C3 dice C3 except bingo.'
"""

from __future__ import annotations

import re

EXCEPTION_WORDS = (
    "except for",
    "except",
    "excepting",
    "excluding",
    "but not",
    "but",
    "unless",
    "other than",
    "apart from",
    "aside from",
    "however",
)
_EXCEPTION = re.compile(rf"\s*,?\s*(?=\(?\b(?:{'|'.join(EXCEPTION_WORDS)})\b)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*,\s*(?:(?:or|and)\s+)?|\s+(?:or|and)\s+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def with_codes_in_list(definition: str, code: str) -> str:
    """The pieces between `;`, the code after every one. `definition` is one line."""
    return _coded(definition.split(";"), code)


def with_codes(definition: str, code: str) -> str:
    """The definition with the code after every phrase, of a list or of prose. `definition` is one line."""
    if ";" in definition:
        return with_codes_in_list(definition, code)
    return " ".join(_sentence(sentence, code) for sentence in _SENTENCE_END.split(definition) if sentence)


def _sentence(sentence: str, code: str) -> str:
    exception = _EXCEPTION.search(sentence)
    excepted = ""
    if exception is not None:
        sentence, excepted = sentence[: exception.start()], sentence[exception.end() :]
    return f"{_coded(_BETWEEN.split(sentence.rstrip('.!?')), code)} {excepted}".strip()


def _coded(phrases: list[str], code: str) -> str:
    return " ".join(f"{phrase.strip()} {code}" for phrase in phrases if phrase.strip())
