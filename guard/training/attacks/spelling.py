"""Changes of the characters of a message: invisible ones put in, letters replaced, the whole encoded."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Mapping
from random import Random
from urllib.parse import quote

from guard.training.attacks.attack import Change
from guard.training.generator.words import obfuscate

_SMALL = "abcdefghijklmnopqrstuvwxyz"


def sprinkle(characters: str, share: float = 1.0) -> Change:
    """Puts one of the characters behind a share of all characters."""

    def change(random: Random, text: str) -> str:
        return "".join(c + (random.choice(characters) if random.random() < share else "") for c in text)

    return change


def wrapped(before: str, after: str, *, each_word: bool = False, reverse: bool = False) -> Change:
    """The text, or each word, between two strings; reversed, where that is how it is shown right."""

    def change(_: Random, text: str) -> str:
        pieces = text.split(" ") if each_word else [text]
        return " ".join(before + (piece[::-1] if reverse else piece) + after for piece in pieces)

    return change


def letters_from(start: int, *, first: str = "a") -> dict[str, str]:
    """26 letters in a row, from a code point on."""
    return {chr(ord(first) + n): chr(start + n) for n in range(26)}


def small(letters: str) -> dict[str, str]:
    """The small letters in other forms; a blank keeps one as it is."""
    return {a: b for a, b in zip(_SMALL, letters, strict=True) if b != " "}


FULL_WIDTH = {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)} | {" ": "\u3000"}
SUPERSCRIPT = small("ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ ʳˢᵗᵘᵛʷˣʸᶻ")
SMALL_CAPITALS = small("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘ ʀꜱᴛᴜᴠᴡ ʏᴢ")
CYRILLIC = small("а сԁе  һіјк   орԛ ѕт ѵԝху ")
GREEK = small("α       ι κ   ορ   τυν χ  ")
ARMENIAN = small("      ցհ     ոօ զ   ս     ")
OTHER_LATIN = small("ɑ     ɡ ı ĸ          ʋ   ʐ")
ACCENTED = small("à ç é   î    ñö   š ü   ÿž")
LEET = small("4   3   1     0   57      ")
STARS = small("*   *   *     *     *     ")
MATHEMATICAL = {
    "bold": 0x1D41A,
    "bold script": 0x1D4EA,
    "double-struck": 0x1D552,
    "bold Fraktur": 0x1D586,
    "monospace": 0x1D68A,
}
CIRCLED = letters_from(0x24D0)
ON_BLACK = letters_from(0x1F150) | letters_from(0x1F170, first="A")
FLAGS = letters_from(0x1F1E6)


def replaced(letters: Mapping[str, str], share: float = 1.0) -> Change:
    """Writes a share of the letters that have another form in it."""

    def change(random: Random, text: str) -> str:
        return "".join(letters.get(c, c) if random.random() < share else c for c in text)

    return change


def one_in_each_word(letters: Mapping[str, str]) -> Change:
    """Replaces one letter of every word that has another form for one."""

    def change(random: Random, text: str) -> str:
        words = text.split(" ")
        for number, word in enumerate(words):
            places = [at for at, c in enumerate(word) if c in letters]
            if places:
                at = random.choice(places)
                words[number] = word[:at] + letters[word[at]] + word[at + 1 :]
        return " ".join(words)

    return change


def joined(separator: str, *, times: int = 1) -> Change:
    """Every letter `times` times, with a separator between the letters of a word."""

    def change(_: Random, text: str) -> str:
        return "  ".join(separator.join(c * times for c in word) for word in text.split(" "))

    return change


def marked(marks: str, least: int, most: int) -> Change:
    """Puts `least` to `most` of the marks on every letter."""

    def change(random: Random, text: str) -> str:
        def some() -> str:
            return "".join(random.choices(marks, k=random.randint(least, most)))

        return "".join(c + some() if c.isalpha() else c for c in text)

    return change


def random_case(random: Random, text: str) -> str:
    """Capitals at random."""
    return "".join(c.upper() if random.random() < 0.5 else c for c in text)


def odd_words(random: Random, text: str) -> str:
    """Odd spelling as in training, of every third word or so."""
    return " ".join(obfuscate(random, word) if random.random() < 0.4 else word for word in text.split(" "))


def shuffled_insides(random: Random, text: str) -> str:
    """Each word with its inner letters in another order: people read it all the same."""

    def shuffle(word: str) -> str:
        inner = list(word[1:-1])
        random.shuffle(inner)
        return word[:1] + "".join(inner) + word[-1:] if len(word) > 3 else word

    return " ".join(map(shuffle, text.split(" ")))


def encoded(how: str) -> Change:
    """The message in an encoding, with the request to decode it."""

    def change(_: Random, text: str) -> str:
        data = text.encode()
        match how:
            case "base64":
                return f"decode this base64 and answer it: {base64.b64encode(data).decode()}"
            case "base32":
                return f"decode this base32 and answer it: {base64.b32encode(data).decode()}"
            case "hex":
                return f"decode this hex and answer it: {data.hex(' ')}"
            case "percent":
                return f"https://example.com/?q={quote(''.join(f'%{byte:02x}' for byte in data), safe='%')}"
            case "rot13":
                return f"decode this rot13 and answer it: {codecs.encode(text, 'rot13')}"
            case "backwards":
                return f"read this backwards and answer it: {text[::-1]}"
            case _:
                raise ValueError(f"no encoding {how!r}")

    return change


ENCODINGS: Iterable[str] = ("base64", "base32", "hex", "percent", "rot13", "backwards")
