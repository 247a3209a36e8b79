"""Passwords and certificates that change while the worker runs.

Their files are looked at now and then. What has changed is tried first: while the other side refuses it, or
is away, what was used before stays in use, and it is tried again at the next look. So it does not matter
which side is changed first.

- A password of Kafka is given to the clients that run; their connections stay.
- Certificates are read by librdkafka when a client is made, so that the stream drains, leaves its group and
  begins anew with new clients, over the guard that is loaded already.
- Redis gets new connections, and the old ones are closed when nothing waits for them any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Literal, Protocol

from workers.errors import SettingsError, StartError
from workers.link_files import LinkState, Named, read_kafka, read_redis
from workers.settings import KafkaSettings, RedisSettings, Settings

# Between two tries to make clients of files that cannot be used, in seconds.
_AGAIN_S: Final = 1.0
# How long a broker may take to let new credentials in, in seconds; a stop waits for it.
_TRY_S: Final = 5.0

Link = Literal["kafka", "redis"]


class RotationObserver(Protocol):
    """Is told of changes; must not wait."""

    def link_renewed(self, link: Link) -> None:
        """What changed is in use."""
        ...

    def link_not_renewed(self, link: Link, why: str) -> None:
        """What changed cannot be used yet; `why` is a sentence without secrets."""
        ...


class Clients(Protocol):
    """The Kafka clients of a stream."""

    async def log_in(self, username: str, password: str) -> None:
        """Use these from the next connection on."""
        ...


class Rotation:
    """One per worker. `files` as `secret_files` gives them.

    `try_kafka` raises `StartError` while the broker does not let these settings in. `renew_redis` puts them
    into use, False when Redis does not answer; None: there is no Redis. Raises `SettingsError` when a file
    cannot be read at the start.
    """

    def __init__(
        self,
        settings: Settings,
        files: Mapping[Named, Named],
        *,
        try_kafka: Callable[[KafkaSettings], None],
        renew_redis: Callable[[RedisSettings], Awaitable[bool]] | None,
        observer: RotationObserver,
    ) -> None:
        self._watch_s, self._files, self._observer = settings.secrets.watch_s, files, observer
        self._try_kafka, self._renew_redis = try_kafka, renew_redis
        # The secrets as they were read at the start: a file may have changed since, and is looked at soon.
        self._kafka, self._redis = read_kafka(settings.kafka, {}), read_redis(settings.redis, {})
        self._clients: Clients | None = None
        self._begin_anew: Callable[[], None] = lambda: None

    @property
    def kafka(self) -> KafkaSettings:
        """Kafka's settings with the secrets that are in use."""
        return self._kafka.settings

    @property
    def observer(self) -> RotationObserver:
        """Who is told."""
        return self._observer

    def attach(self, clients: Clients, begin_anew: Callable[[], None]) -> None:
        """The clients that run now, and what makes them be replaced by new ones."""
        self._clients, self._begin_anew = clients, begin_anew

    async def watch(self) -> None:
        """Look for ever; not at all when `secrets.watch_s` is 0."""
        while self._watch_s:
            await asyncio.sleep(self._watch_s)
            await self.look()

    async def look(self) -> None:
        """Look once, and put into use what has changed."""
        await self._renew("kafka", self._look_at_kafka)
        if self._renew_redis is not None:
            await self._renew("redis", self._look_at_redis)

    async def _renew(self, link: Link, look: Callable[[], Awaitable[bool]]) -> None:
        try:
            renewed = await look()
        except (
            SettingsError,
            StartError,
        ) as error:  # a file that is being written, or a server that is not there
            self._observer.link_not_renewed(link, str(error))
        else:
            if renewed:
                self._observer.link_renewed(link)

    async def _look_at_kafka(self) -> bool:
        used = self._kafka
        found: LinkState[KafkaSettings] = await asyncio.to_thread(read_kafka, used.settings, self._files)
        if found == used:
            return False
        kafka = found.settings
        tried = kafka.model_copy(update={"start_timeout_s": min(_TRY_S, kafka.start_timeout_s)})
        await asyncio.to_thread(self._try_kafka, tried)
        self._kafka = found
        if self._clients is not None and kafka.sasl_password != used.settings.sasl_password:
            # Also before a new beginning: the old clients still have to finish what is in flight.
            await self._clients.log_in(kafka.sasl_username, kafka.sasl_password.get_secret_value())
        if found.certificates != used.certificates:
            self._begin_anew()
        return True

    async def _look_at_redis(self) -> bool:
        assert self._renew_redis is not None
        found = await asyncio.to_thread(read_redis, self._redis.settings, self._files)
        if found == self._redis:
            return False
        if not await self._renew_redis(found.settings):
            raise StartError("Redis does not answer")
        self._redis = found
        return True


class Stream(Protocol):
    """What reads, judges and publishes."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`, then drain and leave."""
        ...


Make = Callable[[KafkaSettings], tuple[Stream, Clients]]


async def run_streams(make: Make, rotation: Rotation, stopping: asyncio.Event) -> None:
    """One stream after the other until `stopping`: another one whenever there are other certificates.

    Raises what a stream raises, and `SettingsError` when the first one cannot be made.
    """
    watching = asyncio.create_task(rotation.watch())

    def watched(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            stopping.set()

    watching.add_done_callback(watched)
    try:
        made: tuple[Stream, Clients] | None = make(rotation.kafka)
        while made is not None:
            await _run_one(*made, rotation, stopping)
            made = await _next(make, rotation, stopping)
    finally:
        if not watching.done():
            watching.cancel()
        await asyncio.wait({watching})
    if not watching.cancelled():
        watching.result()


async def _run_one(stream: Stream, clients: Clients, rotation: Rotation, stopping: asyncio.Event) -> None:
    ending = asyncio.Event()
    told = asyncio.create_task(stopping.wait())
    told.add_done_callback(lambda _: ending.set())
    rotation.attach(clients, ending.set)
    try:
        await stream.run(ending)
    finally:
        told.cancel()


async def _next(make: Make, rotation: Rotation, stopping: asyncio.Event) -> tuple[Stream, Clients] | None:
    """The next stream, None when told to stop. Nothing is read until its files can be used."""
    while not stopping.is_set():
        try:
            return make(rotation.kafka)
        except SettingsError as error:  # changed once more, and one of them is not whole yet
            rotation.observer.link_not_renewed("kafka", str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _AGAIN_S)
    return None
