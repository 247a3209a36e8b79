"""What the path of an event and the stream ask of the world, and the nouns that pass through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from guard.serving.question import Question
from schemas.identifiers import Count, Sha256
from schemas.verdict import Unjudged, Verdict

Headers = list[tuple[str, bytes | None]]


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as the broker gave it.

    `timestamp_ms` in Unix milliseconds: the broker's when `stamped`, else what its sender wrote.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp_ms: int
    stamped: bool = True


class Publication(msgspec.Struct, frozen=True, gc=False):
    """An outcome, ready for its topic. Publications with one `line` leave in the order of their records."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    line: bytes | None = None
    """What the order is kept for; None: no order, and none is waited for."""
    settled: Callable[[bool], None] | None = None
    """Told once whether the broker took it (False: its topic refuses it), where a trace asks for that."""


Stage = Literal["cache", "queue", "guard", "hold", "order", "delivery", "commit"]
"""What an unfinished record waits for: the verdict cache, a place at the guard, its answer, a guard that is
down, an earlier message of its conversation, the broker's acknowledgement, the next commit."""


class Oldest(msgspec.Struct, frozen=True):
    """The first record of a partition that is not committed, and what it waits for.

    `seconds` since it was read. `stage` is None and `seconds` 0 when everything that was read is committed.
    """

    partition: int
    offset: int
    seconds: float
    stage: Stage | None


class Lag(NamedTuple):
    """How far behind a partition is: records that are not committed, and the age in seconds of the oldest one
    without an outcome. None: not known."""

    partition: int
    records: int | None
    seconds: float | None


Report = Callable[[Stage], None]
"""Told what a record waits for from now on. Cheap, and may be called at any time and any number of times."""


class Pending(msgspec.Struct, frozen=True):
    """A record whose outcome needs the guard: to be run as a task of its own.

    `tokens`: prompt tokens of its question, as estimated; they are in flight until `judge` returns.
    """

    line: bytes
    judge: Callable[[Report], Awaitable[Publication]]
    tokens: int = 0


class Position(msgspec.Struct, frozen=True, gc=False):
    """What is committed of a partition: the next offset to read, and the note that is kept with it."""

    offset: int
    note: str = ""


class Path(Protocol):
    """What becomes of records; the stream knows nothing else of moderation."""

    async def moderate(self, records: Sequence[Record]) -> Sequence[Publication | Pending]:
        """One result per record, same order. Never raises for what a record holds."""
        ...

    def undeliverable(self, record: Record, letter: Publication | None) -> Publication:
        """What is published instead of an outcome that its topic refuses as too large.

        `letter`: the dead letter that was refused; None: a decision. Raises `StreamStopped` when there is
        nothing smaller.
        """
        ...


class Journal(Protocol):
    """What must outlive the worker, partition by partition: kept in the notes of commits."""

    def recall(self, partition: int, note: str) -> None:
        """The partition was assigned; `note` stood in its last commit, "" when none did.

        Never raises for what a note holds: another version may have written it.
        """
        ...

    def note(self, partition: int) -> str:
        """What should stand in the commit now, "" for nothing; at most 3,000 bytes of UTF-8."""
        ...

    def stale(self) -> Collection[int]:
        """Partitions whose written note is not `note` any more; they are committed without delay."""
        ...

    def written(self, partition: int, note: str) -> None:
        """The broker took a commit with this note."""
        ...

    def forget(self, partition: int) -> None:
        """The partition is gone; another worker recalls what was written."""
        ...


class NoJournal:
    """Nothing must outlive the worker: every note is empty."""

    def recall(self, partition: int, note: str) -> None: ...

    def note(self, partition: int) -> str:
        return ""

    def stale(self) -> Collection[int]:
        return ()

    def written(self, partition: int, note: str) -> None: ...
    def forget(self, partition: int) -> None: ...


class RebalanceListener(Protocol):
    """Told by the source while it fetches; `partitions` are numbers of the one topic that is read."""

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        """These came, with the note of each one's last commit ("" when there is none)."""
        ...

    async def revoked(self, partitions: Sequence[int]) -> None: ...
    async def lost(self, partitions: Sequence[int]) -> None: ...


class EventSource(Protocol):
    """Where records come from. One task drives it."""

    async def join(self, listener: RebalanceListener) -> None: ...

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[Record]:
        """What has come, up to `limit` records, in order per partition; waits so long for the first.

        Rebalances happen only in here and in `leave`.

        Raises `StreamStopped` when the source cannot go on.
        """
        ...

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        """Fetch nothing of these partitions while staying in the group.

        None: of any partition, those included that are assigned from now on until `resume()`. Numbers that
        are not assigned are passed over. What was prefetched is thrown away and fetched again.
        """
        ...

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        """Fetch these again; None: all. Numbers that are not assigned are passed over."""
        ...

    async def leave(self) -> None: ...


class Refused(NamedTuple):
    """An outcome that its topic refuses as too large. `letter`: a dead letter; None: it was a decision."""

    ticket: Any
    letter: Publication | None


class Outcomes(Protocol):
    """Publishes outcomes together with the offsets that they finish.

    At least once: each is sent at once, and `commit` follows delivery. A transaction fits behind the same
    calls: `publish` collects, `commit` sends what stands before the positions and the positions as one.
    """

    def publish(self, ticket: Any, publication: Publication) -> None:
        """Send; `ticket` comes back from `collect`. Raises `StreamStopped` when it cannot be sent at all."""
        ...

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        """Tickets delivered, and what topics refuse as too large. Never waits.

        Raises `StreamStopped` when a delivery failed for any other reason.
        """
        ...

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        """Commit per partition; the answer is the partitions whose position and note the broker took.

        The others may be tried again. Raises `StreamStopped` when trying again cannot help.
        """
        ...

    async def flush(self, timeout_s: float) -> None:
        """Wait until everything published is delivered or refused, at most so long."""
        ...


RationaleForm = Literal["masked", "off", "full"]
"""What a rationale goes through before it is kept and published."""


class CachedVerdict(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A verdict as it is kept. `rationale_form` says what its rationale went through before it was kept.

    Types are as narrow as a decision's: what is read from a cache and fits here can become a decision.
    """

    verdict: Verdict
    origin_decision: Sha256
    kept_at_ms: Count
    rationale_form: RationaleForm
    model: str
    checkpoint_digest: str
    verified: bool
    engine_version: str
    expires_at_ms: int = 0
    """Until when it may be used (Unix ms); 0: as long as the cache has it."""


class VerdictCache(Protocol):
    """Remembers verdicts. A failure is a miss and never raises."""

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        """One result per key, same order."""
        ...

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        """Kept when this returns, unless the cache is out of order."""
        ...


class Turns(Protocol):
    """Which of several workers asks the guard what they all want to know. Never raises."""

    async def take(self, key: str, limit_s: float | None) -> CachedVerdict | None:
        """None: ask the guard, and say `end` afterwards. Else what another worker was told meanwhile.

        Waits for another worker no longer than `limit_s`, None: than the turns themselves allow.
        """
        ...

    def end(self, key: str) -> None: ...


class Guard(Protocol):
    """Judges. Raises `guard.errors.EngineDead` when the guard is down, which says nothing of the question."""

    @property
    def alive(self) -> bool:
        """Whether it can be asked now."""
        ...

    async def judge(self, question: Question) -> Verdict | Unjudged: ...
    def estimate_tokens(self, question: Question) -> int: ...


class Clock(Protocol):
    """Time, passed in."""

    def now_ms(self) -> float:
        """Unix milliseconds, comparable with the broker's."""
        ...

    def monotonic_s(self) -> float: ...
