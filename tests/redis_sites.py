"""Redis as operators run it, for tests: one server, a cluster of three, a master behind sentinels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from tests.waiting import wait_for
from workers.adapters.embedded_redis import RedisProcess, redis_program
from workers.adapters.embedded_server import LOOPBACK, free_port, port_is_free

SERVICE = "verdicts"
# A node's bus listens on its port plus this.
_BUS = 10_000
_SLOTS = 16_384


class Node(RedisProcess):
    """A server with more arguments than the local stack gives it."""

    def __init__(self, folder: Path, *arguments: str, **options: Any) -> None:
        super().__init__(folder, ephemeral=True, **options)
        self._arguments = arguments

    def _prepare(self) -> list[str]:
        return [*super()._prepare(), *self._arguments]

    def command(self, *words: Any) -> Any:
        """What the server answers, on a connection of its own."""
        with redis.Redis(host=LOOPBACK, port=self.port, socket_timeout=10) as client:
            return client.execute_command(*words)


class SentinelNode(Node):
    """A sentinel that watches a master; one alone decides."""

    def __init__(self, folder: Path, master: Node, **options: Any) -> None:
        super().__init__(folder, **options)
        self._master = master

    def _prepare(self) -> list[str]:
        settings = self.folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind {LOOPBACK}\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} {LOOPBACK} {self._master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        return [redis_program(), str(settings), "--sentinel"]


class ClusterSite:
    """Three masters that share the slots, and on demand a replica of the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes = [self._node(f"node-{number}") for number in range(3)]

    def _node(self, name: str) -> Node:
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        # A slot that nobody serves must not keep the others from being served.
        partial = ("--cluster-require-full-coverage", "no")
        return Node(self._folder / name, *cluster, *partial, port=_cluster_port())

    @property
    def url(self) -> str:
        return f"redis://{','.join(f'{LOOPBACK}:{node.port}' for node in self.nodes)}/0"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        share = _SLOTS // len(self.nodes) + 1
        for number, node in enumerate(self.nodes):
            slots = range(number * share, min((number + 1) * share, _SLOTS))
            node.command("CLUSTER", "ADDSLOTS", *slots)
            node.command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port)
        wait_for(self._agreed, "a cluster that agrees")

    def _agreed(self) -> bool:
        return all(
            b"cluster_state:ok" in _raw(node, "CLUSTER", "INFO")
            and f"cluster_slots_assigned:{_SLOTS}".encode() in _raw(node, "CLUSTER", "INFO")
            for node in self.nodes
        )

    def add_replica(self, of: Node) -> Node:
        """One more node, which holds what `of` holds."""
        replica = self._node(f"replica-{of.port}")
        replica.start()
        self.nodes.append(replica)
        master = node_id(of)
        replica.command("CLUSTER", "MEET", LOOPBACK, of.port)
        wait_for(lambda: master in _raw(replica, "CLUSTER", "NODES").decode(), "the nodes to meet")
        replica.command("CLUSTER", "REPLICATE", master)
        wait_for(lambda: b"master_link_status:up" in _raw(replica, "INFO", "replication"), "replication")
        # The other masters elect only what they know to be a replica.
        known = f"slave {master}".encode()
        wait_for(lambda: all(known in _raw(node, "CLUSTER", "NODES") for node in self.nodes), "the news")
        return replica

    def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Hand an empty slot over, as `redis-cli --cluster reshard` does at its end."""
        for node in (target, source, *self.nodes):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))

    def owner(self, slot: int) -> Node:
        share = _SLOTS // 3 + 1
        return self.nodes[slot // share]

    def stop(self) -> None:
        stop(self.nodes)


class SentinelSite:
    """A master, a replica, and two sentinels."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.master = Node(folder / "master", port=port)
        self.replica = Node(folder / "replica", "--replicaof", LOOPBACK, str(port), port=free_port())
        self.sentinels = [
            SentinelNode(folder / f"sentinel-{number}", self.master, port=free_port()) for number in range(2)
        ]

    @property
    def url(self) -> str:
        return f"redis://{','.join(f'{LOOPBACK}:{node.port}' for node in self.sentinels)}/0"

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        wait_for(lambda: b"master_link_status:up" in _raw(self.replica, "INFO", "replication"), "replication")
        for sentinel in self.sentinels:
            sentinel.start()
        wait_for(self._known, "sentinels that know all")

    def _known(self) -> bool:
        return all(
            b"slaves=1,sentinels=2" in _raw(sentinel, "INFO", "sentinel") for sentinel in self.sentinels
        )

    def master_port(self) -> int:
        """Of the server that the sentinels call the master now."""
        found = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(found[1])

    def stop(self) -> None:
        stop([*self.sentinels, self.replica, self.master])


def stop(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.resume()
        node.kill()


def node_id(node: Node) -> str:
    found = node.command("CLUSTER", "MYID")
    return found.decode() if isinstance(found, bytes) else str(found)


def _raw(node: Node, *words: str) -> bytes:
    with redis.Redis(host=LOOPBACK, port=node.port, socket_timeout=10) as client:
        client.response_callbacks.clear()
        found = client.execute_command(*words)
    return found if isinstance(found, bytes) else str(found).encode()


def _cluster_port() -> int:
    while True:
        port = free_port()
        if port + _BUS < 65_536 and port_is_free(port + _BUS):
            return port
