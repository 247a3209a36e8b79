"""What the guard reads of a text: the same words, without what only hides them.

`normalise` is applied once, to a message and its context, before both the prompt and the fingerprints of the
cache key are made of them. So texts that are read alike share a verdict, and whoever sprinkles invisible
characters over a message asks the question that was asked before. A decision names the version
(`NORMALISER`) in `guard.decoding`, and with it the cache key holds it.

It takes out, or writes plainly, only what people who read the message do not see, or read as something else:

- **Invisible characters**: those that Unicode ignores by default (zero-width characters, joiners, soft
  hyphens, variation selectors, tag characters, bidi controls), other control characters, noncharacters.
  Joiners go in every script, in emoji as well: where one is honest (Persian, Sinhala, a family of emoji) the
  letters or pictures beside it say the same without it, and a rule by script would leave a gap in those.
- **Line breaks** of all kinds become line feeds, every space becomes U+0020; so words stay apart.
- **Reversed by a right-to-left override**: the span is turned round, as it is shown, if it holds no letters
  that run from right to left by themselves.
- **Compatibility forms** (NFKC) of letters and signs: full-width, mathematical, circled, superscript letters,
  ligatures, presentation forms; and by a table small capitals and letters on black. Left alone are forms with
  a meaning of their own (fractions, raised and lowered digits), spacing accents, phrases in one character,
  and letters that living orthographies write so (`_KEPT`), which NFKC would take apart.
- **Lines and rings drawn over letters** (strike-through and the like), and **floods of marks**: three or more
  diacritics on one letter are taken off; of other marks the first eight are kept.
- **Look-alikes within one word**: a word of Latin letters and of Cyrillic or Greek ones that all look Latin
  becomes Latin (`сasino` with a Cyrillic `с`), and the other way round. A word in one script is left as it
  is, since nothing tells a disguise from honest Russian; the skeletons of UTS 39 would destroy such text.

What it does not touch: case, punctuation, digits for letters, spaced or dashed letters, repeated white space,
quotes, emoji, the order of turns, encodings such as base64. Those are words to be judged.

The result is in NFC; normalised once more it is the same. It has at most six times the characters of the
text. Time and memory are linear in the text: marks are bounded before Python puts them in Unicode's order,
which takes it quadratic time.

>>> normalise("c\\u200ba\\u00adsi\\u2060no")
'casino'
>>> normalise("ｃａｓｉｎｏ 𝒄𝒂𝒔𝒊𝒏𝒐 ⓒⓐⓢⓘⓝⓞ")
'casino casino casino'
>>> normalise("10² ½ Москва")
'10² ½ Москва'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

NORMALISER: Final = f"plain-1/{unicodedata.unidata_version}"
"""Names what `normalise` does: its version, and that of the Unicode tables that Python brings."""

_ASCII_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# Default_Ignorable_Code_Point of DerivedCoreProperties.txt (Unicode 15.0), with code points not yet assigned;
# then controls without a meaning here, interlinear annotation, and a note without a head.
_REMOVED: Final = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    *((0xE0000, 0xE0FFF), (0x0, 0x8), (0xE, 0x1F), (0x7F, 0x84), (0x86, 0x9F)),
    *((0xFDD0, 0xFDEF), (0xFFF9, 0xFFFB), (0x1D159, 0x1D159)),
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
)
_LINE_BREAKS: Final = "\r\x0b\x0c\x85\u2028\u2029"
_BRAILLE_BLANK: Final = "\u2800"
# Lines through, over and under letters; marks that enclose one (category Me) go as well.
_DRAWN: Final = (
    "\u0305\u0332\u0333\u0334\u0335\u0336\u0337\u0338\u033f\u035e\u035f"
    "\u20d2\u20d3\u20d8\u20d9\u20da\u20e5\u20e6\u20e8\u20ea\u20eb"
)
# Letters of their languages that are compatibility forms to Unicode: a Greek sigma that looks like `c`,
# Armenian `and`, Kazakh vowels with a high hamza, Thai and Lao vowels, Lao letters, Tibetan vowels. Besides,
# whatever NFKC makes into conjoining Hangul.
_KEPT: Final = frozenset("\u03f2\u03f9\u0587\u0675\u0676\u0677\u0678\u0e33\u0eb3\u0edc\u0edd\u0f77\u0f79")
_CONJOINING: Final = re.compile("[\u1100-\u11ff]")
_RAISED_SIGNS: Final = re.compile(r"[0-9+=()\u2212]+")
# Longer forms are phrases: U+FDFA becomes 18 characters, which would let a text grow eighteenfold.
_LONGEST_FORM: Final = 7
_SMALL_CAPITALS: Final = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz", strict=True))
_ON_BLACK: Final = {chr(start + n): chr(ord("A") + n) for start in (0x1F150, 0x1F170) for n in range(26)}
# Blocks of diacritics of no one script.
_DIACRITICS: Final = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
# Honest letters have two at most (Vietnamese, taken apart); other scripts have a few more marks.
_FLOOD: Final = 3
_MOST_MARKS: Final = 8
# A span under an override ends at its paragraph's end, or at the next control of direction.
_OVERRIDE: Final = re.compile("\u202e([^\n\r\x0b\x0c\x85\u2028\u2029\u202a-\u202e\u2066-\u2069]*)")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})

# Look-alikes by UTS 39 (confusables.txt) that look so in upright type as well. Upper case beside lower case.
_LATIN_OF: Final[Mapping[str, str]] = {
    **dict(zip("асԁеһіјкӏорԛѕтѵԝхуү", "acdehijklopqstvwxyy", strict=True)),
    **dict(zip("АВСЕНІЈКМОРԚЅТѴԜХУҮ", "ABCEHIJKMOPQSTVWXYY", strict=True)),
    **dict(zip("αικνορτυχϲϳ", "aikvoptuxcj", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ", "ABEZHIKMNOPTYXCJ", strict=True)),
}
_CYRILLIC_OF: Final = {
    **dict(zip("acehijkopstxy", "асеһіјкорѕтху", strict=True)),
    **dict(zip("ABCEHIJKMOPSTXY", "АВСЕНІЈКМОРЅТХУ", strict=True)),
}
_GREEK_OF: Final = {
    **dict(zip("aikvoptux", "αικνορτυχ", strict=True)),
    **dict(zip("ABEZHIKMNOPTYX", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", strict=True)),
}


def _letters(*ranges: tuple[int, int]) -> frozenset[str]:
    letters = (chr(code) for first, last in ranges for code in range(first, last + 1))
    return frozenset(letter for letter in letters if unicodedata.category(letter)[0] == "L")


_LATIN: Final = _letters((0x41, 0x7A), (0xC0, 0x2AF), (0x1E00, 0x1EFF))
_CYRILLIC: Final = _letters((0x400, 0x52F))
_GREEK: Final = _letters((0x370, 0x3FF), (0x1F00, 0x1FFF))
_OTHERS: Final = _CYRILLIC | _GREEK


def normalise(text: str) -> str:
    """The text as the guard reads it; the same object where nothing changes. Never raises."""
    if text.isascii() and (text.isprintable() or _ASCII_CONTROLS.search(text) is None):
        return text
    changed = _plainly(text)
    return text if changed == text else changed


class _Tables(NamedTuple):
    """`written`: character → what is read for it; `runs`: of too many marks; `words`: with their marks."""

    written: Mapping[str, str]
    marks: frozenset[str]
    notable: frozenset[str]
    """A text in NFC with none of these is read as it is, but for look-alikes."""
    runs: re.Pattern[str]
    words: re.Pattern[str]


def _plainly(text: str) -> str:
    tables = _tables()
    letters = set(text)
    if not tables.notable.isdisjoint(letters) or not unicodedata.is_normalized("NFC", text):
        text = _written(text, tables)
        letters = set(text)
    if not (_OTHERS.isdisjoint(letters) or _LATIN.isdisjoint(letters)):
        text = _composed(tables.words.sub(_in_one_script, text), tables)
    return text


def _written(text: str, tables: _Tables) -> str:
    if "\u202e" in text:
        text = _OVERRIDE.sub(_as_shown, text)
    text = _composed(text, tables)
    letters = set(text)
    if tables.written.keys().isdisjoint(letters):
        return text
    # Every character gets an entry, since `translate` is three times as slow for those that have none.
    written = {ord(letter): tables.written.get(letter, letter) for letter in letters}
    # Once more composed: what is written may be a mark, and marks meet when what parted them is gone.
    return _composed(text.replace("\r\n", "\n").translate(written), tables)


def _composed(text: str, tables: _Tables) -> str:
    """In NFC, with few marks; again until nothing changes, since some marks fall apart into two or three."""
    while True:
        few = text if tables.marks.isdisjoint(text) else tables.runs.sub(_few_marks, text)
        composed = unicodedata.normalize("NFC", few)
        if composed == text:
            return composed
        text = composed


def _as_shown(match: re.Match[str]) -> str:
    inside = match[1]
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in inside):
        return inside
    return inside[::-1]


def _few_marks(match: re.Match[str]) -> str:
    run = match[0]
    if len(_DIACRITICS.findall(run)) >= _FLOOD:
        run = _DIACRITICS.sub("", run)
    return run[:_MOST_MARKS]


def _in_one_script(match: re.Match[str]) -> str:
    """The word in one script, where all letters of the other one look like letters of it."""
    word = match[0]
    letters = set(word)
    if _LATIN.isdisjoint(letters) or _OTHERS.isdisjoint(letters):
        return word
    apart = unicodedata.normalize("NFD", word)
    letters = set(apart)
    latin, cyrillic, greek = letters & _LATIN, letters & _CYRILLIC, letters & _GREEK
    if cyrillic | greek <= _LATIN_OF.keys():
        return _translated(apart, _LATIN_OF)
    if not greek and latin <= _CYRILLIC_OF.keys():
        return _translated(apart, _CYRILLIC_OF)
    if not cyrillic and latin <= _GREEK_OF.keys():
        return _translated(apart, _GREEK_OF)
    return word


def _translated(word: str, letters: Mapping[str, str]) -> str:
    return "".join([letters.get(character, character) for character in word])


@cache
def _tables() -> _Tables:
    """Made of Python's Unicode tables at the first text that is not plain ASCII; some 0.1 s."""
    written: dict[str, str] = {chr(c): "" for first, last in _REMOVED for c in range(first, last + 1)}
    marks: list[str] = []
    # Planes 0 and 1, and the compatibility ideographs, hold all that decomposes and all marks.
    for character in map(chr, range(0x20000)):
        category = unicodedata.category(character)
        # Some marks are of class 0 by themselves, and fall apart into marks that are ordered.
        if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
            marks.append(character)
        if character in written or category in ("Cn", "Co"):
            continue
        if category == "Zs" or character == _BRAILLE_BLANK:
            written[character] = " "
        elif category == "Cs":
            written[character] = "\ufffd"
        elif category == "Me" or character in _DRAWN:
            written[character] = ""
        elif character in _LINE_BREAKS:
            written[character] = "\n"
        elif (form := _plain_form(character)) is not None:
            written[character] = form
    written |= _SMALL_CAPITALS | _ON_BLACK
    del written[" "]
    written = {c: "".join(written.get(part, part) for part in form) for c, form in written.items()}
    mark = _class(marks)
    return _Tables(
        written,
        frozenset(marks),
        frozenset(marks) | written.keys(),
        re.compile(f"{mark}{{{_FLOOD},}}"),
        re.compile(f"(?:\\w|{mark})+"),
    )


def _plain_form(character: str) -> str | None:
    """What NFKC makes of a character, where the guard is to read that; else None."""
    decomposition = unicodedata.decomposition(character)
    if not decomposition:
        return None
    form = unicodedata.normalize("NFKD", character)
    if form == unicodedata.normalize("NFD", character) or character in _KEPT or len(form) > _LONGEST_FORM:
        return None
    kind = decomposition.split()[0]
    if kind == "<narrow>" and _CONJOINING.search(form):
        return chr(int(decomposition.split()[1], 16))  # half-width Hangul: the letter in its usual width
    accent = form[0] == " " and len(form) > 1 and unicodedata.combining(form[1])
    digits = kind in ("<super>", "<sub>") and _RAISED_SIGNS.fullmatch(form)
    if kind == "<fraction>" or accent or digits or _CONJOINING.search(form):
        return None
    return form


def _class(characters: Iterable[str]) -> str:
    """An expression for any of the characters; neighbours become ranges.

    In two parts, because `re` looks up a class within plane 0 by a table, and any other range by range.
    """
    ranges: dict[bool, list[list[int]]] = {False: [], True: []}
    for code in sorted(map(ord, characters)):
        of_plane = ranges[code > 0xFFFF]
        if of_plane and code == of_plane[-1][1] + 1:
            of_plane[-1][1] = code
        else:
            of_plane.append([code, code])
    low, high = ("".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in of_plane) for of_plane in ranges.values())
    return f"(?:[{low}]|(?=[\\U00010000-\\U0010ffff])[{high}])"
