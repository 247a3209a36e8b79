"""Builds the worker; the only module that knows all concrete objects.

What can be wrong is asked first and in the order of its cost (settings, policies, checkpoint, broker, port,
Redis), so that an operator does not wait for a model to load to learn that a topic is missing.

A little over 300 lines: what a worker is made of is read in one piece.
"""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from dataclasses import dataclass
from itertools import count
from typing import Final

from guard.calibration import Scales
from guard.checkpoint import Checkpoint
from guard.errors import EngineKilled, EngineNotReady
from guard.serving.judge import Judge
from guard.serving.question import MODES
from workers.adapters.kafka import KafkaSource
from workers.adapters.kafka_checks import check_login, check_topics
from workers.adapters.kafka_options import transactional_id
from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.adapters.kafka_stamps import Published
from workers.adapters.kafka_transactions import KafkaTransactions
from workers.adapters.policy_topic import PolicyLetters, PolicyTopic
from workers.free_memory import giving_back, trimmer
from workers.health import Health, HealthServer
from workers.judging import (
    content_key,
    guards_used,
    make_judge,
    stored_checkpoint,
    stored_scales,
    trusted_key_ids,
)
from workers.logs import attend, configure_logging
from workers.metrics import Metrics
from workers.moderation.choose_policy import PolicyBook, make_ready
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.pipeline import ModerationPath, PathOptions
from workers.moderation.publish import Topics
from workers.moderation.read_event import EventLimits
from workers.moderation.recall_verdict import VerdictKeys
from workers.moderation.spans import PathSpans
from workers.policies import load_policies
from workers.policy_follower import PolicyFollower, following
from workers.ports import Outcomes, Turns, VerdictCache
from workers.rotation import Rotation, run_streams
from workers.settings import FAULTS_VARIABLE, KafkaSettings, Settings, fault_hooks, secret_files
from workers.shared_cache import cache_tiers, leases, open_shared_cache
from workers.stream.broker_clock import BrokerClock
from workers.stream.budget import GuardBudget
from workers.stream.lag import lags
from workers.stream.loop import LoopLimits, StreamLoop
from workers.stream.outage import Outage
from workers.stream.settled import TellingOutcomes
from workers.stream.suspects import Suspects
from workers.stream.window import Caps, Window
from workers.telemetry import Telemetry
from workers.tracing import Tracing, open_tracing

# A full window is waited for so long without a poll, in seconds: pausing throws prefetched records away.
_STALL_S: Final = 5.0
# Objects made and not freed before the young are collected: about what a full window holds.
_COLLECT_AFTER: Final = 50_000
# How often the guard's first start is tried when its process is killed meanwhile: once may be an accident.
_FIRST_TRIES: Final = 3


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> float:
        return time.time() * 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks before the start found."""

    policies: PolicyBook
    checkpoint: Checkpoint
    scales: Scales
    topic_bytes: int | None
    trusted_keys: list[str]
    """Ids of the keys of which one signed the checkpoint; none: it need not be signed."""
    follower: PolicyFollower | None = None
    """Has read the topic of policies to its end; None: policies come from files. To be closed."""


def check(settings: Settings) -> Checked:
    """Everything that can be known to be wrong without loading a model.

    Raises `SettingsError`, `StartError` or a `GuardError` with one sentence for the operator.
    """
    chosen = settings.policies
    policies = None
    if chosen.source == "files":
        policies = load_policies(chosen.path, chosen.default, chosen.unknown)
    checkpoint = stored_checkpoint(settings.guard)
    scales = stored_scales(settings.guard, checkpoint)
    trusted_keys = trusted_key_ids(settings.guard)
    if policies is not None:
        book = PolicyBook(policies, scales, checkpoint.profile)
        return Checked(book, checkpoint, scales, check_topics(settings.kafka), trusted_keys)
    topic_bytes = check_topics(settings.kafka)
    follower = PolicyFollower(
        settings.kafka,
        chosen,
        records=PolicyTopic(),
        letters=PolicyLetters(),
        ready=lambda policy: make_ready(policy, scales, checkpoint.profile),
    )
    try:
        book = follower.load()
    except BaseException:
        follower.close()
        raise
    return Checked(book, checkpoint, scales, topic_bytes, trusted_keys, follower)


async def run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    """Judge events until `stopping`. Raises `WorkerError` or `GuardError`."""
    configure_logging(settings.log.level, settings.log.format)
    attend(asyncio.get_running_loop(), settings.log.level)
    checked = check(settings)
    clock, metrics = SystemClock(), Metrics()
    health = Health(clock.monotonic_s)
    telemetry = Telemetry(metrics, health, clock.monotonic_s)
    server = await HealthServer.start(settings.health, health, metrics.registry)
    try:
        telemetry.say(
            "The checks before the start have passed.",
            health_port=server.port,
            scores={mode: checked.scales.why(mode) or "calibrated" for mode in MODES},
            trusted_keys=checked.trusted_keys,
        )
        if not settings.secrets.content_key.get_secret_value():
            telemetry.warn("RSAFE_SECRETS__CONTENT_KEY is not set; a development key is used.")
        if fault_hooks():
            telemetry.warn(f"{FAULTS_VARIABLE} is set: messages may break the guard. Never where it matters.")
        async with following(checked.follower, telemetry, stopping):
            await _run(settings, checked, telemetry, health, clock, stopping)
    finally:
        await server.close()


async def _run(
    settings: Settings,
    checked: Checked,
    telemetry: Telemetry,
    health: Health,
    clock: SystemClock,
    stopping: asyncio.Event,
) -> None:
    telemetry.policies_in_force(checked.policies.fingerprint, checked.policies.used())
    shared = await open_shared_cache(settings, telemetry, clock)
    if shared is not None:
        telemetry.watch_shared_cache(shared.left_alone)
    rotation = Rotation(
        settings,
        secret_files(),
        try_kafka=check_login,
        renew_redis=None if shared is None else shared.renew,
        observer=telemetry,
    )
    tracing = open_tracing(settings.tracing, telemetry)
    judge = make_judge(
        settings.guard,
        checked.checkpoint,
        checked.scales,
        content_key(settings.secrets),
        call_times=tracing is not None,
    )
    telemetry.watch_fleet(judge.fleet)
    judge.tell_of_fleet(telemetry.endpoint_changed)
    turns = leases(settings.cache, shared, telemetry, clock)
    outage = Outage(
        judge.start,
        EngineNotReady,
        observer=telemetry,
        alive=lambda: judge.alive,
        gave_up=stopping.set,
    )
    try:
        if not await _start(outage, stopping):
            return
        telemetry.guard_changed(False)
        _spare_the_collector()
        outage.watch(judge.gone)

        streams = count()

        def stream(kafka: KafkaSettings) -> tuple[StreamLoop, KafkaSource]:
            used = settings.model_copy(update={"kafka": kafka})
            if checked.follower is not None and next(streams):  # other certificates than at the start
                checked.follower.renew(kafka)
            loop, source = make_stream(used, checked, judge, shared, outage, telemetry, clock, turns, tracing)
            telemetry.watch(loop)
            return loop, source

        try:
            async with giving_back(trimmer()):
                await run_streams(stream, rotation, stopping)
        finally:
            if outage.failure is not None:  # whatever else went wrong, went wrong of that
                raise outage.failure
        telemetry.say("The worker has drained and left its group.")
    finally:
        health.stopping = True
        await outage.close()
        await judge.close()
        if turns is not None:
            await turns.close()
        if shared is not None:
            await shared.close()
        if tracing is not None:
            await tracing.close()


async def _start(outage: Outage, stopping: asyncio.Event) -> bool:
    """Start the guard; False when told to stop meanwhile."""
    starting = asyncio.create_task(outage.bring_up(EngineKilled, _FIRST_TRIES))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True


def _spare_the_collector() -> None:
    """Leave what the imports made out of garbage collection, and collect the young less often.

    A batch makes thousands of objects that are gone with it and hold no cycles; with Python's defaults
    each batch is collected ten times over, and now and then all that vLLM imported with it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)


def make_stream(
    settings: Settings,
    checked: Checked,
    judge: Judge,
    shared: VerdictCache | None,
    outage: Outage,
    telemetry: Telemetry,
    clock: SystemClock,
    turns: Turns | None = None,
    tracing: Tracing | None = None,
) -> tuple[StreamLoop, KafkaSource]:
    """The stream over Kafka, not joined yet, and its clients; within the running loop."""
    kafka, stream = settings.kafka, settings.stream
    fingerprints = TenantFingerprints(content_key(settings.secrets))
    guards = guards_used(judge, checked.scales)
    suspects, broker_clock = Suspects(), BrokerClock(clock.now_ms, clock.monotonic_s)
    budget = GuardBudget(
        calls=settings.guard.max_concurrency, tokens=stream.in_flight_tokens, clock=clock.monotonic_s
    )
    telemetry.guard_in_force(guards["fast"])
    telemetry.watch_guard(lambda: judge.calls_in_flight, lambda: budget.waiting)
    path = ModerationPath(
        options=PathOptions(
            limits=EventLimits(**settings.limits.model_dump()),
            topics=Topics(
                decisions=kafka.decisions_topic,
                dead_letters=kafka.dead_letters_topic,
                source=f"/rsafe-stream/{kafka.group_id}".encode(),
            ),
            rationale=settings.decisions.rationale,
            ttl_s=settings.cache.ttl_s,
        ),
        policies=checked.policies,
        fingerprints=fingerprints,
        keys=VerdictKeys(settings.cache.scope, fingerprints, guards),
        guards=guards,
        guard=judge,
        cache=cache_tiers(settings.cache, shared, clock, broker_clock, telemetry),
        budget=budget,
        outage=outage,
        suspects=suspects,
        clock=broker_clock,
        observer=telemetry,
        turns=turns,
        spans=None if tracing is None else PathSpans(tracing, broker_clock, group=kafka.group_id),
    )
    if checked.follower is not None:
        checked.follower.attach(path.use)
    source = KafkaSource(kafka)
    if checked.follower is not None:
        source.at_log_in(checked.follower.log_in)
    outcomes = _outcomes(
        kafka,
        source,
        checked.topic_bytes,
        broker_clock,
        lambda stamps: telemetry.published(stamps, broker_clock.now_ms()),
    )
    loop = StreamLoop(
        source=source,
        path=path,
        # Transactions tell it themselves, when they are committed.
        outcomes=outcomes
        if tracing is None or kafka.delivery == "exactly-once"
        else TellingOutcomes(outcomes, stream.in_flight_records),
        window=Window(
            total=Caps(stream.in_flight_records, stream.in_flight_bytes, stream.in_flight_tokens),
            partition=Caps(
                stream.in_flight_records_per_partition,
                stream.in_flight_bytes_per_partition,
                stream.in_flight_tokens_per_partition,
            ),
            batch=stream.batch_records,
        ),
        outage=outage,
        journal=suspects,
        limits=LoopLimits(
            poll_s=stream.poll_ms / 1000,
            commit_interval_s=stream.commit_interval_ms / 1000,
            drain_s=stream.drain_s,
            stall_s=min(_STALL_S, kafka.max_poll_interval_ms / 1000 / 4),
        ),
        clock=clock,
        observer=telemetry,
    )
    telemetry.watch_lags(
        lambda: lags(loop.reaches(), source.starts, source.ends, broker_clock.now_ms()), source.silent_s
    )
    return loop, source


def _outcomes(
    kafka: KafkaSettings,
    source: KafkaSource,
    topic_bytes: int | None,
    clock: BrokerClock,
    published: Published,
) -> Outcomes:
    if kafka.delivery == "at-least-once":
        outcomes = KafkaOutcomes(kafka, source, topic_bytes=topic_bytes, clock=clock, published=published)
        source.before_leave(outcomes.close)
        source.at_leave(outcomes.end)
        source.at_log_in(outcomes.log_in)
        return outcomes
    name = transactional_id(kafka, uuid.uuid4().hex)
    return KafkaTransactions(
        kafka, source, transactional_id=name, topic_bytes=topic_bytes, clock=clock, published=published
    )
