"""The path when the guard is absent, hung, killed, or answers garbage; and when one message is to blame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import EngineFailed
from schemas.dead_letter import read_dead_letter
from schemas.identifiers import Action
from tests.model_folders import write_bare_folder
from tests.unit.workers.moderation.builders import make_policy
from tests.unit.workers.moderation.guard_world import (
    NOW_MS,
    Broker,
    GuardWorld,
    Worker,
    decision_of,
    event_record,
)
from tests.waiting import until
from workers.ports import Position

KILL, HANG = "please [[rsafe-fault kill]]", "please [[rsafe-fault hang]]"
ACTIONS: list[Action] = ["review", "allow", "block"]
Fault = Literal["absent", "killed", "hung"]
FAULTS: list[Fault] = ["absent", "killed", "hung"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


Make = Callable[..., Awaitable[GuardWorld]]


@pytest.fixture
async def make(checkpoint: Checkpoint) -> AsyncIterator[Make]:
    worlds: list[GuardWorld] = []

    async def build(*policies: Any, started: bool = True, **options: Any) -> GuardWorld:
        worlds.append(GuardWorld(checkpoint, *policies, **options))
        if started:
            await worlds[-1].judge.start()
        return worlds[-1]

    yield build
    for world in worlds:
        await world.close()


@asynccontextmanager
async def broken(make: Make, fault: Fault, **policy: Any) -> AsyncIterator[tuple[GuardWorld, Any]]:
    """A question in flight at a guard that breaks and does not come back by itself."""
    chosen = make_policy(id="p", **policy)
    world = await make(chosen, started=fault != "absent", delay_s=0.0 if fault == "absent" else 60.0)
    world.may_return.clear()
    asked = asyncio.ensure_future(world.run(event_record(1, "hello", policy="p", deadline_ms=3_600_000)))
    if fault != "absent":
        await until(lambda: world.engine.calls_in_flight == 1)
        world.engine._delay_s = 0.0
        world.engine.die() if fault == "killed" else world.engine.hang()
    yield world, asked
    await asyncio.gather(asked, return_exceptions=True)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_without_a_guard_the_policy_decides_at_once(make: Make, fault: Fault, action: Action) -> None:
    async with broken(make, fault, on_unavailable=action) as (world, asked):
        (publication,) = await asyncio.wait_for(asked, 10)
        decision = decision_of(publication)
        assert (decision.status, decision.reason, decision.action) == ("unjudged", "unavailable", action)
        assert world.outage.down
        assert (world.suspects.any, world.observer.deaths) == (False, [])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_policy_that_holds_waits_and_is_judged_late(make: Make, fault: Fault) -> None:
    async with broken(make, fault, on_unavailable="hold") as (world, asked):
        await until(lambda: world.outage.holding)
        assert (world.outage.down, world.observer.decisions) == (True, [])
        world.clock.reported(NOW_MS + 2 * 3_600_000, 0.0)  # the deadline passes
        world.may_return.set()
        (publication,) = await asyncio.wait_for(asked, 10)
        assert decision_of(publication).status == "judged"
        assert not world.outage.down


@pytest.mark.parametrize(("action", "reason"), [("hold", None), ("review", "unavailable")])
async def test_a_hang_is_an_outage_also_for_calls_whose_time_ran_out_before_it_was_noticed(
    make: Make, action: Any, reason: str | None
) -> None:
    world = await make(
        make_policy(id="p", on_unavailable=action), delay_s=0.3, call_timeout_s=0.5, hang_timeout_s=1.0
    )
    world.may_return.clear()
    begun = asyncio.get_running_loop().time()
    asked = asyncio.ensure_future(world.run(event_record(1, "hello", policy="p")))
    await until(lambda: world.engine.calls_in_flight == 1)
    world.engine.hang()
    await until(lambda: world.outage.holding or asked.done())
    assert asyncio.get_running_loop().time() - begun >= 0.9  # not at the call's time-out
    assert world.outage.down
    assert asked.done() == (action != "hold")
    assert world.observer.deaths == ([0] if action == "hold" else [])  # a suspect, where it is held
    world.may_return.set()
    (publication,) = await asyncio.wait_for(asked, 10)
    assert decision_of(publication).reason == reason


async def test_an_events_own_deadline_ends_its_wait_in_a_hang_that_nobody_has_noticed(make: Make) -> None:
    world = await make(make_policy(id="p", on_unavailable="hold"), delay_s=60.0, hang_timeout_s=60.0)
    asked = asyncio.ensure_future(world.run(event_record(1, "hello", policy="p", deadline_ms=50)))
    await until(lambda: world.engine.calls_in_flight == 1)
    world.engine.hang()
    (publication,) = await asyncio.wait_for(asked, 10)
    decision = decision_of(publication)
    assert (decision.reason, decision.detail) == ("late", "no answer in time")
    assert not world.outage.down


async def test_deadlines_that_pass_while_the_guard_is_down_do_not_count_where_the_policy_holds(
    make: Make,
) -> None:
    world = await make(make_policy(id="go-on", on_unavailable="review"), started=False)
    world.may_return.clear()
    waits = asyncio.ensure_future(world.run(event_record(1, "waits")))
    await until(lambda: world.outage.holding)
    world.clock.reported(NOW_MS + 60_000, asyncio.get_running_loop().time())
    world.may_return.set()
    await waits
    world.clock.reported(NOW_MS + 90_000, asyncio.get_running_loop().time())
    # What was in the topic meanwhile: within, before, and after the outage, and of a policy that goes on.
    ages = {"within": -10_000, "before": 10_000, "after": -60_000}
    records = [
        event_record(n, name, age_ms=age, deadline_ms=5_000) for n, (name, age) in enumerate(ages.items())
    ]
    records.append(event_record(9, "goes on", age_ms=-10_000, deadline_ms=5_000, policy="go-on"))
    decisions = [decision_of(publication) for publication in await world.run(*records)]
    assert [decision.reason for decision in decisions] == [None, "late", "late", "late"]


@pytest.mark.parametrize("on_unavailable", ["hold", *ACTIONS])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"completion": lambda _: "garbage"}, "unparseable"),
        ({"completion": lambda _: ""}, "unparseable"),
        ({"delay_s": 60.0, "call_timeout_s": 0.02}, "timed_out"),
        ({"failures": [EngineFailed("no")] * 2}, "engine_failed"),
    ],
)
async def test_what_one_question_meets_is_not_the_guard_being_down(
    make: Make, options: dict[str, Any], reason: str, action: Action, on_unavailable: Any
) -> None:
    world = await make(make_policy(id="p", on_unjudged=action, on_unavailable=on_unavailable), **options)
    (publication,) = await world.run(event_record(1, "hello", policy="p"))
    decision = decision_of(publication)
    assert (decision.status, decision.reason, decision.action) == ("unjudged", reason, action)
    assert not world.outage.down


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), RecursionError(), UnicodeEncodeError("utf-8", "", 0, 1, "x"), PanicException()],
)
async def test_an_error_of_the_code_is_the_answer_to_its_question_alone(
    make: Make, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make(delay_s=0.01)
    plain = world.judge.judge

    async def judge(question: Any) -> Any:
        if question.turns[-1].text == "crafted":
            raise error
        return await plain(question)

    monkeypatch.setattr(world.judge, "judge", judge)
    crafted, other = await world.run(event_record(1, "crafted"), event_record(2, "other"))
    decision = decision_of(crafted)
    assert (decision.reason, decision.detail) == ("engine_failed", type(error).__name__)
    assert decision_of(other).status == "judged"
    assert world.observer.errors == [("judging", type(error).__name__)]


@pytest.mark.parametrize("where", ["reading", "deciding"])
async def test_an_error_of_the_code_around_the_guard_is_a_dead_letter(
    make: Make, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make()
    for name in {"reading": ["decode_event"], "deciding": ["make_decision", "write_remembered"]}[where]:
        plain = getattr(__import__("workers.moderation.pipeline", fromlist=[name]), name)

        def fails(subject: Any, *rest: Any, plain: Any = plain) -> Any:
            if b"crafted" in (subject if isinstance(subject, bytes) else subject.record.value):
                raise KeyError("message text")
            return plain(subject, *rest)

        monkeypatch.setattr(f"workers.moderation.pipeline.{name}", fails)
    crafted, other = await world.run(event_record(1, "crafted"), event_record(2, "other"))
    letter = read_dead_letter(crafted.headers)
    assert letter.reason == "poisoned"
    assert ("KeyError" in letter.sentence, "text" in letter.sentence) == (True, False)
    assert decision_of(other).status == "judged"
    assert (world.observer.errors, world.observer.letters) == ([(where, "KeyError")], ["poisoned"])
    # The second delivery finds the verdict remembered, and fails as well.
    (again,) = await world.run(event_record(1, "crafted"))
    assert read_dead_letter(again.headers).reason == "poisoned"


async def test_out_of_time_a_call_is_aborted_in_the_engine(make: Make) -> None:
    world = await make(delay_s=60.0)
    (publication,) = await world.run(event_record(1, "hello", deadline_ms=30))
    decision = decision_of(publication)
    assert (decision.reason, decision.detail) == ("late", "no answer in time")
    await until(lambda: world.engine.calls_in_flight == 0)


async def test_who_can_wait_longer_gets_the_answer_that_others_gave_up(make: Make) -> None:
    world = await make(delay_s=0.2)
    soon, later = await world.run(
        event_record(1, "hello", deadline_ms=20), event_record(2, "hello", deadline_ms=60_000)
    )
    assert (decision_of(soon).reason, decision_of(later).status) == ("late", "judged")
    assert world.engine.calls_answered == 1


async def test_who_never_got_a_place_was_not_asked(make: Make) -> None:
    world = await make(delay_s=0.3, calls=1)
    first, second = await world.run(event_record(1, "one"), event_record(2, "two", deadline_ms=30))
    decision = decision_of(second)
    assert (decision.reason, decision.detail, decision.guard) == ("late", "not asked", None)
    assert decision_of(first).status == "judged"


async def test_a_place_goes_to_who_can_still_be_answered(make: Make) -> None:
    world = await make(delay_s=0.1, calls=1)
    await world.run(event_record(0, "how long it takes"))
    texts = ["busy", "hopeless", "fresh"]
    deadlines = [60_000, 150, 60_000]
    asked = zip(texts, deadlines, strict=True)
    busy, hopeless, fresh = await world.run(
        *(event_record(n, text, deadline_ms=ms) for n, (text, ms) in enumerate(asked, start=1))
    )
    assert [decision_of(p).status for p in (busy, fresh)] == ["judged", "judged"]
    assert decision_of(hopeless).reason == "late"


async def test_what_is_late_is_decided_within_the_batch(make: Make) -> None:
    world = await make()
    world.clock.reported(NOW_MS, asyncio.get_running_loop().time())
    (result,) = await world.path.moderate([event_record(1, "hello", age_ms=500, deadline_ms=400)])
    assert decision_of(result).reason == "late"  # type: ignore[arg-type]
    assert world.engine.calls_answered == 0


async def test_while_the_clock_is_not_proven_only_the_first_late_event_is_given_up(make: Make) -> None:
    world = await make()
    old = [event_record(n, f"text {n}", age_ms=3_600_000, deadline_ms=60_000) for n in range(3)]
    asked = [asyncio.ensure_future(world.run(record)) for record in old]
    (first,) = await asked[0]
    assert decision_of(first).reason == "late"
    await asyncio.sleep(0)
    assert not any(task.done() for task in asked[1:])
    # Its acknowledgement shows that our clock is an hour ahead.
    world.clock.reported(NOW_MS - 3_600_000, asyncio.get_running_loop().time())
    assert [decision_of((await task)[0]).status for task in asked[1:]] == ["judged", "judged"]


# poison


@pytest.mark.parametrize("poison", [KILL, HANG])
async def test_the_poison_is_found_and_everything_else_is_judged(make: Make, poison: str) -> None:
    world = await make(delay_s=0.01, cache=False)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            if world.starts:
                most = max(most, world.engine.calls_in_flight)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    texts = ["a", "b", poison, "c", "a"]
    results = await world.run(*(event_record(n, text) for n, text in enumerate(texts)))
    watching.cancel()
    letter = read_dead_letter(results[2].headers)
    assert (letter.reason, letter.offset) == ("poisoned", 2)
    assert [decision_of(results[n]).status for n in (0, 1, 3, 4)] == ["judged"] * 4
    assert (world.starts, most) == (3, 1)  # together once, alone twice; never two at a time meanwhile
    assert not world.suspects.any
    # Whoever asks the same again does not bring the guard down again.
    (again,) = await world.run(event_record(9, poison))
    assert read_dead_letter(again.headers).reason == "poisoned"
    assert world.starts == 3


async def test_all_who_ask_the_same_are_one_suspect(make: Make) -> None:
    world = await make(delay_s=0.01)
    results = await world.run(*(event_record(n, KILL, partition=n % 2) for n in range(4)))
    assert [read_dead_letter(result.headers).reason for result in results] == ["poisoned"] * 4
    assert world.starts == 3


async def test_what_waits_for_a_place_is_no_suspect(make: Make) -> None:
    world = await make(delay_s=0.01, calls=2)
    await world.run(*(event_record(n, KILL if n == 0 else f"text {n}") for n in range(6)))
    assert len([deaths for deaths in world.observer.deaths if deaths == 0]) == 2


async def test_a_guard_that_is_down_when_asked_died_of_nothing(make: Make) -> None:
    world = await make()
    world.engine.die()
    (publication,) = await world.run(event_record(1, "hello"))
    assert (decision_of(publication).status, world.observer.deaths) == ("judged", [])


async def test_policies_that_do_not_hold_have_no_suspects(make: Make) -> None:
    world = await make(make_policy(id="p", on_unavailable="review"), delay_s=0.01)
    (publication,) = await world.run(event_record(1, KILL, policy="p"))
    assert decision_of(publication).reason == "unavailable"
    assert (world.observer.deaths, world.suspects.any) == ([], False)


@pytest.fixture
async def hire(make: Make) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    workers: list[Worker] = []

    async def build(broker: Broker, *, drain_s: float = 0.0, **options: Any) -> Worker:
        workers.append(Worker(await make(**options), broker, drain_s=drain_s))
        return workers[-1]

    yield build
    for worker in workers:
        if not worker.task.done():
            await worker.kill()


Hire = Callable[..., Awaitable[Worker]]


async def test_through_the_loop_nothing_stays_behind(hire: Hire) -> None:
    texts = ["a", "b", KILL, "c", KILL, "d"]
    broker = Broker(
        {
            number: [event_record(n, f"{text} {number}", partition=number) for n, text in enumerate(texts)]
            for number in range(2)
        }
    )
    worker = await hire(broker, delay_s=0.01)
    await worker.until(lambda: broker.done)
    await worker.stop()
    letters = [p for p in broker.published if p.topic == "x"]
    assert sorted(read_dead_letter(p.headers).offset for p in letters) == [2, 2, 4, 4]
    assert len(broker.published) == 12
    assert worker.world.observer.errors == []


async def test_every_death_alone_counts_though_the_worker_dies_with_the_guard(hire: Hire) -> None:
    broker = Broker({0: [event_record(n, KILL if n == 1 else f"text {n}") for n in range(4)]})
    hired = 0
    while not broker.done:
        hired += 1
        worker = await hire(broker, delay_s=0.01, cache=False)
        worker.world.may_return.clear()  # whenever the guard dies, the worker is killed before it is back
        await worker.until(
            lambda down=worker.world.outage: broker.done or (down.down and any(broker.notes))  # type: ignore[misc]
        )
        if not broker.done:
            await worker.kill()
    assert hired <= 6
    letters = {read_dead_letter(p.headers) for p in broker.published if p.topic == "x"}
    assert {(letter.offset, letter.reason) for letter in letters} == {(1, "poisoned")}
    assert {decision_of(p).origin.offset for p in broker.published if p.topic == "d"} == {0, 2, 3}


async def test_a_worker_that_is_told_to_stop_leaves_no_death_behind(hire: Hire) -> None:
    broker = Broker({0: [event_record(1, "hello")]}, {0: Position(1, "1;1.1")})
    worker = await hire(broker, delay_s=60.0)
    await worker.until(lambda: any(note.endswith("!") for note in broker.notes))
    await worker.stop()
    assert broker.positions[0].note == "1;1.1"


async def test_a_suspect_whose_verdict_is_remembered_is_none_any_more(hire: Hire) -> None:
    broker = Broker({0: [event_record(n, "the same") for n in range(2)]}, {0: Position(0, "1;1.1")})
    first = await hire(broker)
    await first.until(lambda: broker.done)
    await first.stop()
    assert len(broker.published) == 2


async def test_a_held_guard_holds_the_stream_and_it_goes_on_by_itself(hire: Hire) -> None:
    broker = Broker({0: [event_record(n, f"text {n}") for n in range(5)]})
    worker = await hire(broker, started=False)
    world = worker.world
    world.may_return.clear()
    await worker.until(lambda: world.outage.holding and worker.paused)
    assert (broker.positions, broker.published) == ({}, [])
    assert waiting_for(worker) == {0: (0, "hold")}
    world.may_return.set()
    await worker.until(lambda: broker.done)
    assert [decision_of(p).status for p in broker.published] == ["judged"] * 5
    await worker.stop()


def waiting_for(worker: Worker) -> dict[int, tuple[int, str | None]]:
    """By partition: the oldest offset and what it waits for."""
    return {oldest.partition: (oldest.offset, oldest.stage) for oldest in worker.loop.oldest()}


async def test_who_is_at_the_guard_and_who_waits_for_a_place_can_be_seen(hire: Hire) -> None:
    broker = Broker({number: [event_record(0, f"text {number}", partition=number)] for number in range(2)})
    worker = await hire(broker, delay_s=60.0, calls=1)
    await worker.until(lambda: worker.world.engine.calls_in_flight == 1)
    await worker.until(lambda: waiting_for(worker) == {0: (0, "guard"), 1: (0, "queue")})


async def test_a_suspect_waits_for_its_marker_before_it_is_asked(hire: Hire) -> None:
    broker = Broker({0: [event_record(0, "hello")]}, {0: Position(0, "1;0.1")}, takes_commits=False)
    worker = await hire(broker, delay_s=60.0)
    await worker.until(lambda: worker.world.suspects.note(0) == "1;0.1!")
    await worker.until(lambda: waiting_for(worker) == {0: (0, "commit")})
    assert worker.world.engine.calls_in_flight == 0
    broker.takes_commits = True
    await worker.until(lambda: waiting_for(worker) == {0: (0, "guard")})
    assert broker.positions == {0: Position(0, "1;0.1!")}


async def test_an_error_that_ends_the_tries_stops_the_worker(make: Make) -> None:
    world = await make(started=False)

    async def restart() -> None:
        raise ValueError("not recoverable")

    world.outage._restart = restart
    with pytest.raises(ValueError, match="not recoverable"):
        await world.run(event_record(1, "hello"))
    assert isinstance(world.outage.failure, ValueError)
