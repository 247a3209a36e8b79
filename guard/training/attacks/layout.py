"""Where the message stands: among padding, in one long word, over several turns, not in the last one."""

from __future__ import annotations

from random import Random

from guard.prompt import Turn
from guard.training.attacks.attack import Change, Conversation, Make
from guard.training.generator.frames import SMALL_TALK

# Characters of padding. The longest leaves room in a model of 2,048 tokens for a policy and an answer.
PADDING_CHARACTERS = (300, 1200, 2400)
LONG_WORD_CHARACTERS = (200, 1500)


def padded(where: str, characters: int) -> Change:
    """Small talk before or after the message, or on both sides."""

    def change(random: Random, text: str) -> str:
        sides = [_talk(random, characters // (2 if where == "both" else 1)) for _ in range(2)]
        before = f"{sides[0]}\n" if where in ("before", "both") else ""
        after = f"\n{sides[1]}" if where in ("after", "both") else ""
        return before + text + after

    return change


def among(filler: str, characters: int) -> Change:
    """The message in the middle of a filler, repeated."""

    def change(_: Random, text: str) -> str:
        side = filler * (characters // 2 // len(filler))
        return side + text + side

    return change


def long_word(characters: int, letters: str = "abcdefghijklmnopqrstuvwxyz") -> Change:
    """A very long word behind the message."""

    def change(random: Random, text: str) -> str:
        return f"{text} {''.join(random.choices(letters, k=characters))}"

    return change


def without_spaces(_: Random, text: str) -> str:
    """The message as one word."""
    return text.replace(" ", "")


def camel_case(_: Random, text: str) -> str:
    """The message as one word of words with capitals."""
    return "".join(word[:1].upper() + word[1:] for word in text.split(" "))


def in_a_word(characters: int) -> Change:
    """The message glued between two very long words."""

    def change(random: Random, text: str) -> str:
        one, two = ("".join(random.choices("abcdefgh", k=characters // 2)) for _ in range(2))
        return one + text + two

    return change


def long_context(characters: int) -> Make:
    """Turns of small talk before the message."""

    def make(random: Random, turns: Conversation) -> Conversation:
        talk: list[Turn] = []
        while sum(len(turn.text) for turn in talk) < characters:
            talk.append(Turn(role="user", text=_talk(random, 120)))
            talk.append(Turn(role="assistant", text=_talk(random, 60)))
        return (*talk, *turns)

    return make


def split(parts: int, reply: str = "", ending: str = "") -> Make:
    """The message over several turns, answered in between or not; the last part, or a request, is judged."""

    def make(_: Random, turns: Conversation) -> Conversation:
        *earlier, last = turns
        words = last.text.split(" ")
        size = -(-len(words) // parts)
        pieces = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
        spoken: list[Turn] = []
        for piece in [*pieces, ending] if ending else pieces:
            if spoken and reply:
                spoken.append(Turn(role="user" if last.role == "assistant" else "assistant", text=reply))
            spoken.append(Turn(role=last.role, text=piece))
        return (*earlier, *spoken)

    return make


def then(text: str) -> Make:
    """The message as an earlier turn, and another text as the last."""

    def make(_: Random, turns: Conversation) -> Conversation:
        return (*turns, Turn(role=turns[-1].role, text=text))

    return make


def _talk(random: Random, characters: int) -> str:
    said: list[str] = []
    while sum(map(len, said)) < characters:
        said.append(random.choice(SMALL_TALK))
    return " ".join(said)
