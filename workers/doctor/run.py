"""The order of the checks: what costs nothing first, then what asks others.

A part that is away does not keep the others from being checked, nor does a check that breaks off itself: that
is a problem of its own, told beside what was found before.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from guard.errors import GuardError
from guard.serving.judge import Judge
from workers.adapters.admin import WantedTopic
from workers.doctor.brokers import kafka_findings, right_findings
from workers.doctor.clock import clock_findings
from workers.doctor.facts import KafkaFacts, RedisFacts
from workers.doctor.findings import AREAS, Area, Finding, not_checked, ok, problem
from workers.doctor.judging import checkpoint_findings, policy_findings
from workers.doctor.own_settings import settings_findings
from workers.doctor.redis_servers import redis_findings
from workers.doctor.servers import server_findings
from workers.doctor.versions import Release, version_findings
from workers.errors import SettingsError, WorkerError
from workers.kafka_rights import Right
from workers.settings import KafkaSettings, RedisSettings, Settings

# For a look at the servers of the engine `remote`, in seconds; a first answer may compile kernels.
LOOK_S: Final = 15.0
_AFTER_SETTINGS: Final = "mend the settings first"
_BROKEN: Final = "what it should have looked at is not known to be sound; please report it"


class Take(Protocol):
    """Tells of findings in the parts that were asked for."""

    def __call__(self, findings: Iterable[Finding], *, needed: bool = False) -> None:
        """`needed`: of a part, asked for or not, without which something asked for cannot be checked."""


class RightsOf(Protocol):
    """The rights that a worker needs, as `workers.kafka_rights.rights` tells them."""

    def __call__(self, kafka: KafkaSettings, *, policies: Literal["files", "topic"]) -> Sequence[Right]: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """By which the checks learn of the world outside; each may raise `WorkerError`."""

    settings: Callable[[], Settings]
    faults: Callable[[], bool]
    environment: Mapping[str, str]
    release: Callable[[], Release | None]
    python: str
    librdkafka: Callable[[], str]
    topics: Callable[[Settings], Sequence[WantedTopic]]
    rights: RightsOf
    kafka: Callable[[KafkaSettings, Sequence[str]], KafkaFacts]
    redis: Callable[[RedisSettings, bool], Awaitable[RedisFacts]]


class Doctor:
    """One round of checks. `areas`: which are wanted. `start_engine`: load the engine, and stop it again."""

    def __init__(self, ports: Ports, *, areas: Collection[Area] = AREAS, start_engine: bool = False) -> None:
        self._ports, self._areas, self._start = ports, frozenset(areas), start_engine

    async def findings(self, tell: Callable[[Finding], None] = lambda _: None) -> list[Finding]:
        """All findings, in the order of the checks; `tell` is given each as it comes."""
        found: list[Finding] = []

        def take(findings: Iterable[Finding], *, needed: bool = False) -> None:
            for one in findings:
                if needed or one.area in self._areas:
                    found.append(one)
                    tell(one)

        settings = self._settings(take)
        with self._reporting(take, "versions"):
            if self._wants("versions"):
                ports = self._ports
                take(version_findings(settings, ports.release(), ports.python, ports.librdkafka()))
        if settings is None:
            rest = [area for area in AREAS if area not in ("settings", "versions")]
            take([not_checked(area, "the settings cannot be used", _AFTER_SETTINGS) for area in rest])
            return found
        judge, kafka, redis = None, None, None
        with self._reporting(take, "policies", "checkpoint", "engine"):
            judge = self._judging(settings, take)
        with self._reporting(take, "kafka", "topics", "rights", "clock"):
            kafka = await self._kafka(settings, take)
        with self._reporting(take, "redis", "clock"):
            redis = await self._redis(settings, take)
        with self._reporting(take, "clock"):
            if self._wants("clock"):
                take(clock_findings(kafka, redis))
        with self._reporting(take, "engine"):
            if self._wants("engine"):
                take(await self._engine(settings, judge))
        return found

    @contextmanager
    def _reporting(self, take: Take, *areas: Area) -> Iterator[None]:
        """What a check of these areas raises unforeseen is a problem of the first that is wanted.

        Only its kind and place are told: the words of a foreign error may hold an address with its password.
        """
        try:
            yield
        except WorkerError:
            raise  # has its sentence and its exit code
        except Exception as error:  # noqa: BLE001 - told as a problem, which ends the command with 1
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"the check broke off with {type(error).__name__} ({Path(at.filename).name}:{at.lineno})"
            first, *rest = [area for area in areas if area in self._areas] or areas
            take([problem(first, what, _BROKEN)], needed=True)
            take([not_checked(area, f"the check of {first} broke off") for area in rest])

    def _wants(self, *areas: Area) -> bool:
        return not self._areas.isdisjoint(areas)

    def _settings(self, take: Take) -> Settings | None:
        settings = None
        try:
            with self._reporting(take, "settings"):
                settings = self._ports.settings()
                take(settings_findings(settings, self._ports.environment, faults=self._ports.faults()))
        except SettingsError as error:
            mend = "set it as the sentence says; the reference page of the settings has each of them"
            take([problem("settings", line, mend) for line in str(error).splitlines()], needed=True)
            return None
        return settings

    def _judging(self, settings: Settings, take: Take) -> Judge | None:
        if not self._wants("policies", "checkpoint", "engine"):
            return None
        findings, policies = policy_findings(settings)
        take(findings)
        findings, judge = checkpoint_findings(settings, policies)
        take(findings)
        return judge

    async def _kafka(self, settings: Settings, take: Take) -> KafkaFacts | None:
        if not self._wants("kafka", "topics", "rights", "clock"):
            return None
        wanted = self._ports.topics(settings)
        try:
            facts = await asyncio.to_thread(
                self._ports.kafka, settings.kafka, [topic.name for topic in wanted]
            )
        except WorkerError as error:
            mend = "start the brokers, or mend address, port, credentials or network policy"
            away: list[Area] = ["topics", "rights"]
            take([problem("kafka", str(error), mend)], needed=True)
            take([not_checked(area, "no broker lets this client in") for area in away])
            return None
        followed = settings.policies.source == "topic"
        take(kafka_findings(facts, settings.kafka, wanted, policies_followed=followed))
        take(right_findings(facts, settings.kafka, self._rights(settings)))
        return facts

    def _rights(self, settings: Settings) -> Sequence[Right]:
        return self._ports.rights(settings.kafka, policies=settings.policies.source)

    async def _redis(self, settings: Settings, take: Take) -> RedisFacts | None:
        if not self._wants("redis", "clock"):
            return None
        if not settings.redis.url.get_secret_value():
            why = "RSAFE_REDIS__URL is empty: each worker remembers verdicts for itself"
            take([not_checked("redis", why, "set it where several workers shall share them")])
            return None
        try:
            facts = await self._ports.redis(settings.redis, bool(settings.cache.lease_ms))
        except WorkerError as error:
            mend = "mend the setting, or the user's rights as the sentence says"
            take([problem("redis", str(error), mend)], needed=True)
            return None
        take(redis_findings(facts))
        return facts

    async def _engine(self, settings: Settings, judge: Judge | None) -> list[Finding]:
        if judge is None:
            return [not_checked("engine", "the checkpoint cannot be used")]
        found: list[Finding] = []
        if (looked := await judge.look_at_servers(LOOK_S)) is not None:
            found += server_findings(looked)
        if not self._start:
            if looked is None:
                why = f"`{settings.guard.engine}` was not started, which may take minutes"
                found.append(not_checked("engine", why, "start it once with `rsafe doctor --engine`"))
            return found
        try:
            await judge.start()
        except GuardError as error:
            mend = "mend what the sentence names; the guard's log says more"
            return [*found, problem("engine", str(error), mend)]
        finally:
            await judge.close()
        return [
            *found,
            ok("engine", f"`{settings.guard.engine}` {judge.identity.engine_version} has started"),
        ]
