"""The events of a load: who says what, and whether it was asked before. Pure, and seeded.

A run first asks each text of its *pool* once. Of the events that follow, the share `hits` repeats a text of
the pool, as its tenant asked it, and every other text is new. Events are numbered from 0, the pool first.

What is drawn for an event depends on the seed and on its number alone. The name of the run stands in
every text, so that no verdict of another run is found for it; two runs of one seed differ in nothing else.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.event import Event, Message
from schemas.keys import record_key
from workers.load.lengths import Ints, Lengths

# Drawn together; the share of hits is exact over every so many events.
CHUNK: Final = 8_192
# Streams of random numbers of one seed.
_EVENTS, _POOL = 0, 1
# The words of a text begin at one of so many characters of a long row of words.
_BEGINNINGS: Final = 4_096
_WORDS: Final = (
    "the a and of to in it you that was for on are as with they be at one have this from or had by but "
    "some what there we can out other were all your when up use word how said an each she which do time "
    "if will way about many then them would write like so these her long make thing see him two has look "
    "day could go come did my sound no most number who over know water than call first people may down"
)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a load."""

    run: str
    """Name of the run; letters and digits."""
    seed: int
    hits: float
    """Share of events, from 0 to 1, whose text was asked before."""
    pool: int
    """Texts that are asked first; 0 when nothing is to be hit."""
    conversations: int
    """At least as many as tenants."""
    zipf: float
    """The k-th busiest conversation has a share as k to the power of minus this; 0: all the same."""
    tenants: tuple[str, ...]
    policy: str | None
    """That the events name; None: the worker chooses."""
    lengths: Lengths
    longest_text: int
    """Longest text in characters."""
    sent_at: datetime
    """The same for all events."""


class Draws(NamedTuple):
    """What was drawn for a chunk of events; arrays of one length."""

    conversations: Ints
    hits: npt.NDArray[np.bool_]
    texts: Ints
    """Of a hit: which text of the pool. It belongs to the conversation's tenant."""
    lengths: Ints
    """In characters; of no use for a hit."""


class Line(NamedTuple):
    """A conversation, ready to be written into events."""

    tenant: str
    conversation_id: str
    author: str
    key: bytes


def event_prefix(run: str) -> str:
    """What the ids of a run's events begin with; the event's number follows."""
    return f"load-{run}-"


def zipf_shares(count: int, exponent: float) -> npt.NDArray[np.float64]:
    """The share of each of `count` ranks, the busiest first; their sum is 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum(), dtype=np.float64)


class Traffic:
    """The events of one run. The same plan gives the same bytes."""

    def __init__(self, plan: LoadPlan) -> None:
        assert plan.conversations >= len(plan.tenants)
        assert plan.pool == 0 if plan.hits == 0 else plan.pool >= len(plan.tenants)
        self.plan = plan
        self._tenants = len(plan.tenants)
        self._bounds = np.cumsum(zipf_shares(plan.conversations, plan.zipf))
        self._bounds[-1] = 1.0  # whatever the sum was rounded to
        self._lines: list[Line | None] = [None] * plan.conversations
        self._prefix = event_prefix(plan.run)
        self._encode = msgspec.json.Encoder().encode
        self._filler = _filler(plan.seed, plan.longest_text)
        lengths = plan.lengths.draw(
            np.random.default_rng([plan.seed, _POOL]), plan.pool, plan.longest_text
        ).tolist()
        self._pool = [self._text(number, length) for number, length in enumerate(lengths)]

    def pool(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of the events that ask the pool's texts; numbers from 0."""
        for number, text in enumerate(self._pool):
            tenant, place = number % self._tenants, number // self._tenants
            own = -(-(self.plan.conversations - tenant) // self._tenants)  # the tenant's conversations
            yield self._event(number, tenant + self._tenants * (place % own), text)

    def events(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of the events that follow, without end; numbers from `plan.pool`."""
        number = self.plan.pool
        for chunk in itertools.count():
            draws = self.draws(chunk)
            for conversation, hit, text, length in zip(*(part.tolist() for part in draws), strict=True):
                words = self._pool[text] if hit else self._text(number, length)
                yield self._event(number, conversation, words)
                number += 1

    def draws(self, chunk: int) -> Draws:
        """What is drawn for the events from `chunk` × `CHUNK` on."""
        plan = self.plan
        rng = np.random.default_rng([plan.seed, _EVENTS, chunk])
        conversations = np.searchsorted(self._bounds, rng.random(CHUNK), side="right").astype(np.int64)
        first = chunk * CHUNK
        repeated = math.floor((first + CHUNK) * plan.hits) - math.floor(first * plan.hits)
        hits = rng.permutation(np.arange(CHUNK) < repeated)
        tenants = conversations % self._tenants
        own = -(-(plan.pool - tenants) // self._tenants)  # texts of the pool that are the tenant's
        texts = tenants + self._tenants * np.floor(rng.random(CHUNK) * own).astype(np.int64)
        lengths = plan.lengths.draw(rng, CHUNK, plan.longest_text)
        return Draws(conversations, hits, texts, lengths)

    def _text(self, number: int, length: int) -> str:
        mark = f"{self.plan.run}-{number:x} "  # first, so that no two prompts share the message's beginning
        start = number * 7_919 % _BEGINNINGS
        return (mark + self._filler[start : start + length])[: max(length, len(mark) - 1)]

    def _event(self, number: int, conversation: int, text: str) -> tuple[bytes, bytes]:
        line = self._lines[conversation] or self._line(conversation)
        event_id = f"{self._prefix}{number}"
        message = Message(id=event_id, role="user", author=line.author, text=text, sent_at=self.plan.sent_at)
        event = Event(
            event_id=event_id,
            tenant=line.tenant,
            conversation_id=line.conversation_id,
            message=message,
            policy=self.plan.policy,
        )
        return line.key, self._encode(event)

    def _line(self, conversation: int) -> Line:
        tenant = self.plan.tenants[conversation % self._tenants]
        name = f"load-{conversation}"
        made = Line(tenant, name, f"author-{conversation}", record_key(tenant, name))
        self._lines[conversation] = made
        return made


def _filler(seed: int, longest: int) -> str:
    """Plain words, long enough for the longest text from any beginning."""
    rng, known = random.Random(seed), _WORDS.split()
    words: list[str] = []
    left = longest + _BEGINNINGS
    while left > 0:
        words.append(rng.choice(known))
        left -= len(words[-1]) + 1
    return " ".join(words) + " "
