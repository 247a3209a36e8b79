"""What a worker will do is tried on every server, and what comes of it is told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from pydantic import SecretStr
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NotConnected

from workers.adapters.redis_check import Answered, check_servers
from workers.adapters.redis_server import Command
from workers.errors import StartError
from workers.redis_rights import Topology, commands
from workers.settings import RedisSettings

TOPOLOGIES: tuple[Topology, ...] = get_args(Topology)
MOVED = MovedError("1 host:1")


class Server:
    """Answers every command with OK, or as it is told to."""

    def __init__(self, answers: dict[str, Any] | Exception | None = None, name: str = "a:1") -> None:
        self.answers, self.name, self.asked = answers or {}, name, list[Command]()

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        self.asked += commands
        if isinstance(self.answers, Exception):
            raise self.answers
        return [self.answers.get(str(command[0]), b"OK") for command in commands]


class Servers:
    def __init__(self, *servers: Server, topology: Topology = "standalone", lost: Any = None) -> None:
        self.topology, self.servers, self.lost = topology, servers, lost

    def several(self) -> bool:
        return self.topology == "cluster"

    def known(self) -> Sequence[Any]:
        return self.servers

    async def find(self) -> Sequence[Any]:
        if self.lost is not None:
            raise self.lost
        return self.servers

    async def divide(self, keys: Sequence[str]) -> Sequence[Any]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def check(servers: Servers, *, leases: bool = False, **changes: Any) -> tuple[Answered, list[str]]:
    more = {"sentinel_service": "verdicts"} if servers.topology == "sentinel" else {}
    settings = RedisSettings.model_validate(
        {"url": SecretStr("redis://a:1"), "topology": servers.topology} | more | changes
    )
    told: list[str] = []
    return await check_servers(servers, settings, leases=leases, failed=told.append), told


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("leases", [False, True])
async def test_all_that_is_on_the_list_is_tried_and_nothing_else(topology: Topology, leases: bool) -> None:
    server = Server()
    assert await check(Servers(server, topology=topology), leases=leases) == (Answered(1, 0), [])
    tried = ["|".join(map(str, words[: 2 if words[0] == "CLUSTER" else 1])) for words in server.asked]
    assert tuple(name.lower() for name in tried) == commands(topology, leases=leases)


@pytest.mark.parametrize("error", [ClusterCrossSlotError("x"), MOVED, ClusterDownError("x")])
@pytest.mark.parametrize("command", ["MGET", "SET"])
async def test_a_cluster_where_none_is_expected_is_told_by_its_answers(
    error: ResponseError, command: str
) -> None:
    with pytest.raises(StartError, match=r"^RSAFE_REDIS__TOPOLOGY: a cluster stands at"):
        await check(Servers(Server({command: error})))


async def test_a_replica_without_its_master_is_no_cluster() -> None:
    away = MasterDownError("x")
    assert await check(Servers(Server({"MGET": away}))) == (Answered(1, 0), ["MasterDownError"])


async def test_no_cluster_where_one_is_expected_is_told_by_its_answer() -> None:
    lost = ResponseError("This instance has cluster support disabled")
    with pytest.raises(StartError, match=r"^RSAFE_REDIS__TOPOLOGY: .* is no cluster"):
        await check(Servers(topology="cluster", lost=lost))


async def test_a_node_that_does_not_have_the_key_has_let_the_user_run_the_command() -> None:
    one, other = Server({"GET": MOVED, "SET": MOVED}), Server()
    assert await check(Servers(one, other, topology="cluster")) == (Answered(2, 0), [])


async def test_a_right_that_lacks_on_one_node_is_named_though_another_is_away() -> None:
    text = "User me has no permissions to run the 'get' command"
    away, poor = Server(NotConnected("away")), Server({"GET": NoPermissionError(text)})
    with pytest.raises(StartError, match=r"it needs the ACL \+get$"):
        await check(Servers(away, poor, Server(), topology="cluster"))


@pytest.mark.parametrize("where", ["find", "exchange"])
async def test_refused_credentials_are_named(where: str) -> None:
    error = AuthenticationError("WRONGPASS")
    servers = Servers(lost=error) if where == "find" else Servers(Server(error))
    with pytest.raises(StartError, match=r"^RSAFE_REDIS__PASSWORD: Redis refuses the credentials"):
        await check(servers, password=SecretStr("word"))


async def test_a_node_that_is_away_leaves_the_others() -> None:
    servers = Servers(Server(NotConnected("away")), Server(), topology="cluster")
    assert await check(servers) == (Answered(1, 1), ["ConnectionError"])


async def test_servers_that_cannot_be_found_are_silent() -> None:
    servers = Servers(topology="cluster", lost=NotConnected("away"))
    assert await check(servers) == (Answered(0, 1), ["ConnectionError"])


async def test_a_server_that_answers_no_ping_is_silent() -> None:
    assert await check(Servers(Server({"PING": ResponseError("x")}))) == (Answered(0, 1), ["ResponseError"])


async def test_a_full_server_answers_nevertheless() -> None:
    full = Server({"SET": OutOfMemoryError("x")})
    assert await check(Servers(full)) == (Answered(1, 0), ["OutOfMemoryError"])
