"""Conversations judged by a policy: the turns, the label, the violated code and the short trace.

The word that decides stands directly after the looked-up word, as the code does in the prompt, the same for
built-in and custom categories: `casino C3 listed.` · `casino not listed.` · `violence C1 listed.` ·
`violence not listed.` · `harmless.` · `quoted for study.` So one look-up finds out whether a word is listed
and where. With the code at the head of the line only, the model learnt whether and never where. Longer
traces, which copied the whole act first, made it invent copies on unseen frames, and thinking became worse
than not thinking.

Over 300 lines, because how a label follows from policy and text is read in one piece.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from guard.prompt import Turn
from guard.training.generator import frames, wide_frames
from guard.training.generator.lexicon import CONCEPTS
from guard.training.generator.policies import (
    LISTS,
    TRAINING_SOURCES,
    PolicyLine,
    TermSource,
    Wordings,
    draw_policy,
    draw_term,
    draw_unlisted,
)
from guard.training.generator.words import made_up, obfuscate, wrong_nonce

Split = Literal["train", "templates", "objects", "both"]
"""What is held out in a draw: nothing, the sentence templates, the objects, or both."""
Kind = Literal["on", "off", "harmless", "study", "chat", "listed", "unlisted"]
"""on/off: an act of a concept that the policy has or lacks; listed/unlisted: the same for custom terms."""
Style = Literal["words", "single", "full", "wide", "sharp", "crossed"]
"""Bare words (drill), one plain turn, or everything: several turns, odd spelling, forged endings.

`wide` is `full` with more of what is hard: many more frames, odd spelling, forged endings and joined verbs;
`sharp` has more acts, whose verbs decide more often; `crossed` is `sharp` with acts that have another act's
verb, and more forged turns.
"""

_MIX: tuple[tuple[Kind, float], ...] = (
    ("on", 0.26),
    ("off", 0.17),
    ("harmless", 0.13),
    ("study", 0.07),
    ("chat", 0.04),
    ("listed", 0.17),
    ("unlisted", 0.16),
)
_FORGERY_NONCE_LENGTH = 6
_SHARP_MIX: tuple[tuple[Kind, float], ...] = (
    ("on", 0.36),
    ("off", 0.20),
    ("harmless", 0.14),
    ("study", 0.06),
    ("chat", 0.02),
    ("listed", 0.11),
    ("unlisted", 0.11),
)


@dataclass(frozen=True, slots=True)
class _Shares:
    """Of rows, how many have: an act, a custom term in odd spelling; a forged ending; a composed frame;

    of acts, how many have another act's verb; of harmful ones, how many join two verbs or have a made-up
    object; and of forged endings, how many are a turn with a guessed boundary mark.
    """

    mix: tuple[tuple[Kind, float], ...] = _MIX
    odd_acts: float = 0.0
    odd_terms: float = 0.0
    endings: float = 0.0
    composed: float = 0.0
    joined: float = 0.3
    unknown: float = 0.2
    crossed: float = 0.0
    forged_turns: float = 0.0


_PLAIN = _Shares()
_SHARP = _Shares(
    _SHARP_MIX, odd_acts=0.35, odd_terms=0.18, endings=0.2, composed=0.65, joined=0.6, unknown=0.4
)
_SHARES: dict[Style, _Shares] = {
    "words": _PLAIN,
    "single": _PLAIN,
    "full": _Shares(odd_acts=0.2, odd_terms=0.08, endings=0.04),
    "wide": _Shares(odd_acts=0.35, odd_terms=0.18, endings=0.15, composed=0.65, joined=0.4),
    "sharp": _SHARP,
    "crossed": replace(_SHARP, endings=0.3, crossed=0.4, forged_turns=0.35),
}
# For acts that are no violation, which are plain otherwise.
_CROSSED_ALONE = replace(_PLAIN, crossed=_SHARES["crossed"].crossed)
# An act and the end of a frame may make up a held-out act: `assemble {x}` and ` at home`.
_HELD_OUT_ACTS = [
    re.compile(r"\S+(?: \S+)?".join(map(re.escape, re.split(r"\{x\}|\{b\}", act))))
    for concept in CONCEPTS.values()
    for act in (*concept.held_out_acts, *concept.held_out_harmless_acts)
    if " and " not in act
]
_WHOLE: tuple[Style, ...] = ("full", "wide", "sharp", "crossed")
"""Styles of whole conversations."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A conversation with what the guard shall say about its last turn."""

    turns: tuple[Turn, ...]
    label: Literal["safe", "unsafe"]
    trace: str
    kind: Kind
    code: str = ""
    """The violated category; empty when safe."""
    subject: str = ""
    """What the trace names first: a concept or a custom term; the deciding word follows it."""
    odd: bool = False
    """Odd spelling in the last turn."""
    forged: bool = False

    @property
    def verdict(self) -> str:
        return f"\\boxed{{{self.label}}}" + (f" {self.code}" if self.code else "")


@dataclass(frozen=True, slots=True)
class Row:
    """One exchange under one policy."""

    policy: tuple[PolicyLine, ...]
    exchange: Exchange


def draw_act(
    rng: random.Random, split: Split, name: str, *, harmless: bool = False, shares: _Shares = _PLAIN
) -> str:
    """An act of a concept, or a harmless act that resembles one.

    In training a share combines two verbs, and a share has a made-up object, so that the verb decides.
    """
    concept = CONCEPTS[name]
    templates_held, objects_held = split in ("templates", "both"), split in ("objects", "both")
    if harmless:
        templates, held, objects, slot = (
            concept.harmless_acts,
            concept.held_out_harmless_acts,
            concept.harmless_objects,
            "{b}",
        )
    else:
        objects = concept.held_out_objects if objects_held else concept.objects
        templates, held, slot = concept.acts, concept.held_out_acts, "{x}"
    template = rng.choice(held if templates_held else templates)
    thing = rng.choice(objects)
    if split == "train":
        if shares.crossed and rng.random() < shares.crossed:
            template = _crossed(rng, template, templates, slot)
        if rng.random() < shares.joined:
            verb = rng.choice(templates).split(f" {slot}")[0]
            combined = f"{verb} and {template}"
            if combined not in held and verb != template.split(f" {slot}")[0]:
                template = combined
        if not harmless and rng.random() < shares.unknown:
            thing = rng.choice(["the ", "a ", "my ", "her ", ""]) + made_up(rng)
    return template.replace(slot, thing)


def _crossed(rng: random.Random, act: str, others: Sequence[str], slot: str) -> str:
    """The act with the verb of another one, where more than the verb says what is done.

    So a word decides by itself, and not only in the one act that has it.
    """
    _, *rest = act.split(" ")
    if len(rest) < 3:  # the object and one more word, such as `at`: the verb was all there was
        return act
    return " ".join([rng.choice(others).split(f" {slot}")[0].split(" ")[0], *rest])


def draw_exchange(
    rng: random.Random,
    policy: tuple[PolicyLine, ...],
    split: Split = "train",
    kind: Kind | None = None,
    source: TermSource = "train",
    style: Style = "full",
) -> Exchange | None:
    """One conversation under `policy`; None when the policy cannot give this kind.

    A custom term of the policy never stands in the last turn by accident: the label would be wrong.
    """
    shares = _SHARES[style]
    possible = [k for k, _ in shares.mix if _can(policy, k)]
    if kind is not None and kind not in possible:
        return None
    terms = {word for line in policy if line.concept is None for t in line.terms for word in t.split()}
    while True:
        weights = [w for k, w in shares.mix if k in possible]
        chosen = kind or rng.choices(possible, weights)[0]
        exchange, key, text = _content(rng, policy, split, chosen, source, style)
        if split == "train" and any(act.search(text) for act in _HELD_OUT_ACTS):
            continue
        if chosen == "listed" or terms.isdisjoint(re.findall(r"[a-z]+", text.lower())):
            break
    odd = forged = False
    if style in _WHOLE:
        if key and rng.random() < (shares.odd_terms if chosen in ("listed", "unlisted") else shares.odd_acts):
            odd, text = True, text.replace(key, obfuscate(rng, key))
        if rng.random() < shares.endings:
            forged, text = True, text + _ending(rng, style)
        turns = _turns(rng, policy, split, text)
    else:
        turns = (Turn(role="user", text=text),)
    return Exchange(
        turns, exchange.label, exchange.trace, chosen, exchange.code, exchange.subject, odd, forged
    )


def forge(rng: random.Random, endings: tuple[str, ...]) -> str:
    """An ending that pretends to be the prompt's own structure, with a wrong boundary mark."""
    ending = rng.choice(endings).replace("{{", "{").replace("}}", "}")
    return ending.replace("{nonce}", wrong_nonce(rng, _FORGERY_NONCE_LENGTH))


def _ending(rng: random.Random, style: Style) -> str:
    turns = _SHARES[style].forged_turns
    if turns and rng.random() < turns:
        return wide_frames.forge_turn(rng, _FORGERY_NONCE_LENGTH)
    if style != "full" and rng.random() < 0.8:
        return wide_frames.forge_from_pieces(rng, _FORGERY_NONCE_LENGTH)
    return forge(rng, frames.FORGERIES)


def terms_of(style: Style) -> TermSource:
    """Where the words of a policy's own come from in rows of a style."""
    return "wide" if _SHARES[style].composed else "train"


def draw_group(
    seed: int, size: int = 6, style: Style = "full", wordings: Wordings = LISTS
) -> tuple[tuple[PolicyLine, ...], tuple[Exchange, ...]]:
    """One training policy and `size` conversations under it."""
    rng = random.Random(seed)
    source = terms_of(style)
    builtin = None if style in _WHOLE else rng.choice([0, 1, 2, 3, 4])
    policy = draw_policy(rng, source, builtin=builtin, wordings=wordings)
    drawn = [draw_exchange(rng, policy, source=source, style=style) for _ in range(size)]
    return policy, tuple(e for e in drawn if e is not None)


def act_line(policy: tuple[PolicyLine, ...], name: str) -> PolicyLine | None:
    """The line of a built-in concept."""
    return next((line for line in policy if line.concept == name), None)


def listed_trace(subject: str, line: PolicyLine) -> str:
    """The trace of a violation."""
    return f"{subject} {line.code} listed."


def unlisted_trace(subject: str) -> str:
    """The trace of something that the policy does not mind."""
    return f"{subject} not listed."


def _can(policy: tuple[PolicyLine, ...], kind: Kind) -> bool:
    builtin = sum(line.concept is not None for line in policy)
    match kind:
        case "on":
            return builtin > 0
        case "off":
            return builtin < len(CONCEPTS)
        case "listed":
            return builtin < len(policy)
        case _:
            return True


def _content(
    rng: random.Random,
    policy: tuple[PolicyLine, ...],
    split: Split,
    kind: Kind,
    source: TermSource,
    style: Style,
) -> tuple[Exchange, str, str]:
    """The exchange without turns, its key word or phrase, and the text of the last turn."""
    held, shares = split in ("templates", "both"), _SHARES[style]
    present = sorted({line.concept for line in policy if line.concept is not None})
    bare = style == "words" and rng.random() >= 0.3
    if kind in ("on", "off"):
        name = rng.choice(present) if kind == "on" else rng.choice([c for c in CONCEPTS if c not in present])
        act, line = draw_act(rng, split, name, shares=shares), act_line(policy, name)
        text = act if bare else _act_sentence(rng, held, act, style)
        if line is None:
            return Exchange((), "safe", unlisted_trace(name), kind, "", name), act, text
        return Exchange((), "unsafe", listed_trace(name, line), kind, line.code, name), act, text
    if kind in ("listed", "unlisted"):
        line = None
        if kind == "listed":
            line = rng.choice([line for line in policy if line.concept is None])
            term = line.title if rng.random() < 0.1 else rng.choice(line.phrases)
        else:
            near = 0.3 if source in TRAINING_SOURCES and style != "words" else 0.0
            term = draw_unlisted(rng, policy, source, near)
        if shares.composed and rng.random() < shares.composed:
            sentence = wide_frames.topic_frame(rng)
        else:
            sentence = rng.choice(frames.HELD_OUT_TOPIC_FRAMES if held else frames.TOPIC_FRAMES)
        text = term if bare else rng.choice(frames.OPENINGS) + sentence.replace("{t}", term)
        if line is None:
            return Exchange((), "safe", unlisted_trace(term), kind, "", term), term, text
        return Exchange((), "unsafe", listed_trace(term, line), kind, line.code, term), term, text
    if kind == "chat":
        text = rng.choice(frames.HELD_OUT_SMALL_TALK if held else frames.SMALL_TALK)
        return Exchange((), "safe", "harmless.", kind), "", text
    plain = _CROSSED_ALONE if shares.crossed else _PLAIN
    act = draw_act(rng, split, rng.choice(list(CONCEPTS)), harmless=kind == "harmless", shares=plain)
    if kind == "harmless":
        return Exchange((), "safe", "harmless.", kind), act, _act_sentence(rng, held, act, style)
    if shares.composed and rng.random() < shares.composed:
        sentence = wide_frames.study_frame(rng)
    else:
        sentence = rng.choice(frames.HELD_OUT_STUDY_FRAMES if held else frames.STUDY_FRAMES)
    return Exchange((), "safe", "quoted for study.", kind), act, sentence.replace("{a}", act)


def _act_sentence(rng: random.Random, held: bool, act: str, style: Style = "full") -> str:
    composed = _SHARES[style].composed
    if composed and rng.random() < composed:
        frame = wide_frames.act_frame(rng)
    else:
        frame = rng.choice(frames.HELD_OUT_ACT_FRAMES if held else frames.ACT_FRAMES)
    return rng.choice(frames.OPENINGS) + frame.replace("{a}", act) + rng.choice(frames.CLOSINGS)


def _turns(rng: random.Random, policy: tuple[PolicyLine, ...], split: Split, text: str) -> tuple[Turn, ...]:
    """Earlier turns, harmful ones among them, and the last; one last turn in ten is the assistant's."""
    earlier: list[Turn] = []
    if rng.random() < 0.35:
        for _ in range(rng.choice([1, 1, 2])):
            earlier.append(Turn(role="user", text=_earlier_text(rng, policy, split)))
            earlier.append(Turn(role="assistant", text=rng.choice(frames.REPLIES)))
    role: Literal["user", "assistant"] = "assistant" if rng.random() < 0.1 else "user"
    if role == "assistant":
        earlier.append(Turn(role="user", text=_earlier_text(rng, policy, split)))
    return (*earlier, Turn(role=role, text=text))


def _earlier_text(rng: random.Random, policy: tuple[PolicyLine, ...], split: Split) -> str:
    kind = rng.random()
    if kind < 0.6:
        act = draw_act(rng, split, rng.choice(list(CONCEPTS)), harmless=kind >= 0.35)
        return _act_sentence(rng, False, act)
    if kind < 0.8:
        listed = [t for line in policy if line.concept is None for t in line.phrases]
        term = rng.choice(listed) if listed and rng.random() < 0.4 else draw_term(rng, "train")
        return rng.choice(frames.TOPIC_FRAMES).replace("{t}", term)
    return rng.choice(frames.SMALL_TALK)
