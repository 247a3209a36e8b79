"""Definitions as people write them: phrases within sentences, with exceptions behind them.

A wording is composed of a lead, the phrases as a list within a sentence, a tail, and the exceptions. Those of
`HELD_OUT` are never drawn for training. Leads that themselves have `or` and `and` are among them, since
customers write such, and the prompt then puts codes behind their parts.
"""

# ruff: noqa: E501 - tables of words

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Parts:
    """Nouns take an adverb or a predicate behind the list, clauses an adverb alone. `{e}`: the exceptions."""

    nouns: tuple[str, ...]
    clauses: tuple[str, ...]
    adverbs: tuple[str, ...]
    predicates: tuple[str, ...]
    exceptions: tuple[str, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_TRAINING = _Parts(
    nouns=_split(
        "messages about|any message about|messages that name|anything about|talk of|any talk of|every mention of|"
        "posts that praise|posts about|content that shows|content on|questions about|requests for|offers of|"
        "advice on|stories of|help with|no talk of|texts or pictures about|links and posts about|"
        "asking for or offering|discussing|mentioning|someone who wants"
    ),
    clauses=_split(
        "this covers|this is about|here we mean|not allowed:|forbidden:|we remove|we remove messages with|"
        "we do not want|we do not accept|nobody may write|nobody may talk of|do not write about|do not mention|"
        "users must not mention|users may not ask for|it is forbidden to name|what we mean is|no|it is about|"
        "the following is forbidden here:|members should never bring up|our rule bans|this group does not allow"
    ),
    adverbs=_split(
        "||||| in any form| of any kind| and so on| on this server| in our chat| at any time| here"
    ),
    predicates=_split(
        " are not allowed| are forbidden here| must go| is against the rules| are removed| is banned|"
        " will get you a warning| cannot stay"
    ),
    exceptions=_split(
        ", except {e}| except {e}|, except for {e}|, but not {e}| but not {e}|, unless it is {e}|, other than {e}|"
        " apart from {e}|, excluding {e}|. however, {e} is fine|, but {e} is allowed| (except {e})|"
        ", except when it is about {e}"
    ),
)
HELD_OUT = _Parts(
    nouns=_split("messages in which someone mentions|comments and images of|remarks on"),
    clauses=_split(
        "please do not talk about|our members never discuss|here nobody wants to read of|the rule is against"
    ),
    adverbs=_split("|| in whatever way"),
    predicates=_split(" will be deleted| has no place here"),
    exceptions=_split(", except of course {e}|, but you may mention {e}|, apart from talk of {e}"),
)
_LAST = (" or ", " or ", " and ", ", ", ", or ")


def prose(
    rng: random.Random, phrases: Sequence[str], exceptions: Sequence[str] = (), *, held_out: bool = False
) -> str:
    """One wording of the phrases, 1 or more; with `held_out` one that training never draws."""
    parts = HELD_OUT if held_out else _TRAINING
    end = rng.choice((".", ".", "", "", "!"))
    excepted = rng.choice(parts.exceptions).replace("{e}", _listed(rng, exceptions)) if exceptions else ""
    text = _sentence(rng, parts, phrases) + excepted + end
    # A second sentence takes some of the phrases.
    if len(phrases) > 2 and not excepted and end and rng.random() < 0.25:
        at = rng.randrange(1, len(phrases))
        text = f"{_sentence(rng, parts, phrases[:at])}{end} {_sentence(rng, parts, phrases[at:])}{end}"
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def _sentence(rng: random.Random, parts: _Parts, phrases: Sequence[str]) -> str:
    if rng.random() < 0.5:
        return f"{rng.choice(parts.clauses)} {_listed(rng, phrases)}{rng.choice(parts.adverbs)}"
    tail = rng.choice(parts.adverbs if rng.random() < 0.5 else parts.predicates)
    return f"{rng.choice(parts.nouns)} {_listed(rng, phrases)}{tail}"


def _listed(rng: random.Random, phrases: Sequence[str]) -> str:
    *first, last = phrases
    return ", ".join(first) + rng.choice(_LAST) + last if first else last
