"""A path over the real judge and the scripted engine, alone or in the loop of a worker that can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from guard.checkpoint import Checkpoint
from guard.errors import EngineError, GuardError
from guard.prompt import PromptRenderer
from guard.serving.fault_hook import FaultyJudge
from guard.serving.identity import JudgeLimits
from guard.serving.question import MODES
from guard.serving.scripted_engine import ScriptedEngine
from schemas.decision import Decision
from schemas.identifiers import Action, Mode
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict
from tests.model_folders import MODEL_LENGTH
from tests.unit.workers.moderation.builders import FINGERPRINTS, LIMITS, make_book, make_event, make_policy
from workers.moderation.outcome import Violated
from workers.moderation.pipeline import ModerationPath, PathOptions
from workers.moderation.publish import Topics
from workers.moderation.recall_verdict import VerdictKeys
from workers.moderation.spans import PathSpans, SpanSink
from workers.ports import CachedVerdict, Position, Publication, RebalanceListener, Record, Turns
from workers.stream.broker_clock import BrokerClock
from workers.stream.budget import GuardBudget
from workers.stream.loop import LoopLimits, StreamLoop
from workers.stream.outage import Outage
from workers.stream.suspects import Suspects
from workers.stream.window import Caps, Window

NOW_MS = 1_800_000_000_000


def event_record(offset: int, text: str, *, partition: int = 0, age_ms: int = 0, **changes: Any) -> Record:
    """A record whose event asks about a text, in a conversation of its own unless one is given."""
    changes = {"event_id": f"e-{offset}", "conversation_id": f"c-{offset}"} | changes
    event = make_event(text=text, **changes)
    value = msgspec.json.encode(event)
    return Record("events", partition, offset, b"k", value, None, NOW_MS - age_ms)


def decision_of(publication: Publication) -> Decision:
    assert publication.value is not None
    return msgspec.json.decode(publication.value, type=Decision)


class Memory:
    """A verdict cache; `on` False forgets everything at once."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.kept: dict[str, CachedVerdict] = {}

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        return [self.kept.get(key) for key in keys]

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        if self.on:
            self.kept[key] = verdict


class Observer:
    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.remembered_actions: list[Action] = []
        self.violated: list[Violated] = []
        self.signs: list[str] = []
        self.letters: list[str] = []
        self.deaths: list[int] = []
        self.errors: list[tuple[str, str]] = []

    def decided(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def remembered(
        self,
        actions: Sequence[Action],
        lags_ms: Sequence[float],
        total_ms: float,
        violated: Sequence[Violated],
    ) -> None:
        self.remembered_actions.extend(actions)
        self.violated.extend(violated)

    def signed(self, sign: str) -> None:
        self.signs.append(sign)

    def dead_lettered(self, reason: str) -> None:
        self.letters.append(reason)

    def asked(self, answer: Verdict | Unjudged, seconds: float, mode: Mode) -> None: ...

    def suspected(self, deaths: int) -> None:
        self.deaths.append(deaths)

    def unexpected(self, where: str, error: BaseException) -> None:
        self.errors.append((where, type(error).__name__))

    # of the loop

    def beat(self, in_flight: int) -> None: ...
    def partitions(self, numbers: Collection[int]) -> None: ...
    def discarded(self, partition: int, records: int, why: str) -> None: ...
    def committed(self, asked: int, taken: int) -> None: ...

    def failed(self, error: BaseException) -> None:
        self.errors.append(("loop", type(error).__name__))


class GuardWorld:
    """A path with a guard that can be broken. Times are real and short."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *policies: Policy,
        delay_s: float = 0.0,
        calls: int = 10,
        completion: Callable[[tuple[int, ...]], str] | None = None,
        failures: Sequence[EngineError] = (),
        call_timeout_s: float = 30.0,
        hang_timeout_s: float = 0.01,
        cache: bool = True,
        turns: Turns | None = None,
        judge_limits: Mapping[str, Any] | None = None,
        secret: bytes = b"secret",
        sink: SpanSink | None = None,
        telemetry: Any = None,
    ) -> None:
        renderer = PromptRenderer(checkpoint.path, checkpoint.template, secret)
        self.engine = ScriptedEngine(
            renderer,
            delay_s=delay_s,
            hang_timeout_s=hang_timeout_s,
            completion=completion,
            failures=failures,
        )
        usual: dict[str, Any] = {
            "max_model_len": MODEL_LENGTH,
            "think_budget_tokens": 64,
            "answer_tokens": 24,
            "call_timeout_s": call_timeout_s,
            "max_attempts": 2,
        }
        limits = JudgeLimits(**(usual | dict(judge_limits or {})))
        self.judge = FaultyJudge(checkpoint, renderer, self.engine, limits)
        self.may_return = asyncio.Event()
        self.may_return.set()
        self.starts = 0
        self.most_at_once = 0
        self.outage = Outage(
            self._restart, GuardError, alive=lambda: self.judge.alive, sleep=lambda _: asyncio.sleep(0)
        )
        self.suspects, self.observer, self.cache = Suspects(), Observer(), Memory(on=cache)
        self.clock = BrokerClock(lambda: NOW_MS, lambda: asyncio.get_running_loop().time())
        guards: dict[Mode, Any] = {mode: self.judge.used(mode) for mode in MODES}
        self.path = ModerationPath(
            options=PathOptions(LIMITS, Topics(decisions="d", dead_letters="x", source=b"s"), "masked", 60),
            policies=make_book(*policies, default=make_policy()),
            fingerprints=FINGERPRINTS,
            keys=VerdictKeys("tenant", FINGERPRINTS, guards),
            guards=guards,
            guard=self.judge,
            cache=self.cache,
            budget=GuardBudget(calls=calls, tokens=1_000_000),
            outage=self.outage,
            suspects=self.suspects,
            clock=self.clock,
            observer=self.observer if telemetry is None else telemetry,
            turns=turns,
            spans=None if sink is None else PathSpans(sink, self.clock, group="g"),
        )

    async def _restart(self) -> None:
        await self.may_return.wait()
        self.starts += 1
        await self.judge.start()

    async def run(self, *records: Record) -> list[Publication]:
        """Every outcome, all records in flight together."""

        async def finish(result: Any) -> Publication:
            return result if isinstance(result, Publication) else await result.judge(lambda _: None)

        return await asyncio.gather(*map(finish, await self.path.moderate(records)))

    async def close(self) -> None:
        await self.outage.close()
        await self.judge.close()


@dataclass
class Broker:
    """What outlives a worker: records, commits, and what was published."""

    records: dict[int, list[Record]]
    positions: dict[int, Position] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    published: list[Publication] = field(default_factory=list)
    takes_commits: bool = True

    @property
    def done(self) -> bool:
        """Whether everything is committed, with nothing to remember."""
        return all(
            self.positions.get(number) == Position(records[-1].offset + 1)
            for number, records in self.records.items()
        )


class Worker:
    """A loop over a `GuardWorld`, reading from a broker. `kill` ends it as SIGKILL would."""

    def __init__(self, world: GuardWorld, broker: Broker, *, drain_s: float = 0.0) -> None:
        self.world, self.broker = world, broker
        self.killed = self.paused = False
        self._sent: list[Any] = []
        self._listener: RebalanceListener | None = None
        self._next = {number: broker.positions.get(number, Position(0)).offset for number in broker.records}
        self.stopping = asyncio.Event()
        self.loop = StreamLoop(
            source=self,
            path=world.path,
            outcomes=self,
            window=Window(Caps(100, 1_000_000, 1_000_000), Caps(100, 1_000_000, 1_000_000), 50),
            outage=world.outage,
            journal=world.suspects,
            limits=LoopLimits(poll_s=0.001, commit_interval_s=0.01, drain_s=drain_s),
            clock=world.clock,
            observer=world.observer,
        )
        self.task = asyncio.create_task(self.loop.run(self.stopping))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.001)

    async def kill(self) -> None:
        self.killed = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.world.close()

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.task, 60)
        await self.world.close()

    # the source

    async def join(self, listener: RebalanceListener) -> None:
        self._listener = listener
        positions = self.broker.positions
        await listener.assigned({n: positions.get(n, Position(0)).note for n in self.broker.records})

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        await asyncio.sleep(0.001)
        found: list[Record] = []
        for number, records in self.broker.records.items() if not self.paused else ():
            new = [record for record in records if record.offset >= self._next[number]][: limit - len(found)]
            if new:
                self._next[number] = new[-1].offset + 1
                found += new
        return found

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        self.paused = True

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        self.paused = False

    async def leave(self) -> None:
        assert self._listener is not None
        await self._listener.revoked(list(self.broker.records))

    # the outcomes

    def publish(self, ticket: Any, publication: Publication) -> None:
        if not self.killed:
            self._sent.append(ticket)
            self.broker.published.append(publication)
            self.world.clock.reported(NOW_MS, asyncio.get_running_loop().time())

    def collect(self) -> tuple[Sequence[Any], Sequence[Any]]:
        sent, self._sent = self._sent, []
        return sent, ()

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        if self.killed or not self.broker.takes_commits:
            return ()
        self.broker.positions.update(positions)
        self.broker.notes += [position.note for position in positions.values()]
        return positions.keys()

    async def flush(self, timeout_s: float) -> None: ...
