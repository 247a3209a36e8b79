"""Whether Redis lets a worker do what it will do: tried on every server before it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    ResponseError,
    TryAgainError,
)

from workers.adapters.redis_security import ask_for_refusal, refusal
from workers.adapters.redis_server import Command, RedisServer
from workers.adapters.redis_topology import Servers
from workers.errors import StartError
from workers.redis_rights import commands
from workers.settings import RedisSettings

# A first connection, perhaps with TLS, may take so many times as long as a round trip.
_FIRST: Final = 4
_NO_CLUSTER: Final = "cluster support disabled"
# Of the pattern that a worker may use, and gone within a second. Of two slots, so that a cluster refuses to
# answer both at once. Whether a user may run a command is looked at before where its keys are.
_KEYS: Final = ("rsafe:may-i:1", "rsafe:may-i:2")
_TRIALS: Final[Mapping[str, Command]] = {
    "ping": ("PING",),
    "mget": ("MGET", *_KEYS),
    "get": ("GET", _KEYS[0]),
    "set": ("SET", _KEYS[0], b"", "PX", 1_000),
    "unlink": ("UNLINK", _KEYS[0]),
    "cluster|slots": ("CLUSTER", "SLOTS"),
}
# The client has selected the database before it runs anything.
_BEFORE: Final = "select"
_ELSEWHERE: Final = (AskError, TryAgainError)  # of which `MovedError` is one
_OF_A_CLUSTER: Final = (AskError, ClusterCrossSlotError, ClusterDownError)


class Answered(NamedTuple):
    """How many servers answered, and how many did not; those that cannot be found count as one."""

    servers: int
    silent: int


async def check_servers(
    servers: Servers, settings: RedisSettings, *, leases: bool, failed: Callable[[str], None]
) -> Answered:
    """Run on each server what a worker runs. `failed` is told the name of each error that waiting may mend.

    `leases`: whether it takes leases, too. Raises `StartError` for what waiting does not mend: refused
    credentials, certificates and commands, and a cluster where none is expected, or none where one is.
    """
    timeout_s = settings.timeout_ms / 1000 * _FIRST
    trials = [_TRIALS[name] for name in commands(settings.topology, leases=leases) if name != _BEFORE]
    silent: list[tuple[str, Exception]] = []
    refused: list[ResponseError] = []
    found: Sequence[RedisServer] = ()
    try:
        async with asyncio.timeout(timeout_s):
            found = await servers.find()
    except Exception as error:  # noqa: BLE001 - what stands at that address may make the client raise anything
        silent.append((_somebody(settings), error))

    async def ask(server: RedisServer) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                answers = await server.exchange(trials)
        except Exception as error:  # noqa: BLE001 - as above
            silent.append((_somebody(settings, server), error))
            return
        errors = [answer for answer in answers if isinstance(answer, ResponseError)]
        if errors and errors[0] is answers[0]:  # not even a PING
            silent.append((_somebody(settings, server), errors.pop(0)))
        refused.extend(errors)

    await asyncio.gather(*map(ask, found))
    trouble: list[tuple[str, Exception]] = [*((_somebody(settings), answer) for answer in refused), *silent]
    for _, one in trouble:
        if why := _other_topology(one, cluster=servers.several()):
            raise StartError(why) from one
    for name, one in trouble:
        if turned_away := refusal(one, settings, name):
            raise turned_away from one
    if silent and (turned_away := await asyncio.to_thread(ask_for_refusal, settings, timeout_s)):
        raise turned_away from silent[0][1]
    for _, one in trouble:
        if not isinstance(one, _ELSEWHERE):
            failed(type(one).__name__)
    return Answered(len(found) - len(silent) if found else 0, len(silent))


def _other_topology(error: Exception, *, cluster: bool) -> str | None:
    if cluster and isinstance(error, ResponseError) and _NO_CLUSTER in str(error):
        return "RSAFE_REDIS__TOPOLOGY: the server at RSAFE_REDIS__URL is no cluster"
    if not cluster and isinstance(error, _OF_A_CLUSTER) and not isinstance(error, MasterDownError):
        return "RSAFE_REDIS__TOPOLOGY: a cluster stands at RSAFE_REDIS__URL; expected cluster"
    return None


def _somebody(settings: RedisSettings, server: RedisServer | None = None) -> str:
    """Who it is that turns us away, as far as that is known."""
    if settings.topology == "sentinel":  # they are asked when a connection to the master is made
        return "Redis or a sentinel"
    return "a node of the Redis Cluster" if server is None else f"Redis at {server.name}"
