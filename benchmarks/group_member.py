"""A light member of a consumer group: Kafka's classic group protocol and nothing else.

It speaks through aiokafka's connection and requests, joins, assigns when it leads, gives up and takes
partitions in two rounds, beats and commits. It reads no records. What a librdkafka consumer keeps beside
that, its threads and queues, is what makes 500 of them too heavy for one small machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    MemberIdRequired,
    NoError,
    RebalanceInProgressError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    MemberAssignment,
    ProtocolMetadata,
    SyncGroupRequest,
)
from aiokafka.protocol.types import Array, Int32, String

from benchmarks.group_shares import Owners, even_shares, this_round

PROTOCOL: Final = "cooperative-sticky"
# Version 1 of a member's metadata is version 0 with the partitions that it owns behind it (KIP-429).
_OWNED: Final = Array(("topic", String("utf-8")), ("partitions", Array(Int32)))
_OWNED_VERSION: Final = 1
# Longer than any round here takes; an answer later than this is an error.
_PATIENCE_MS: Final = 120_000
_RETRY_S: Final = 0.1


class Plan(msgspec.Struct, frozen=True):
    """What all members of a group share."""

    host: str
    port: int
    group: str
    topic: str
    partitions: int
    session_timeout_ms: int
    heartbeat_ms: int


def metadata_of(topic: str, owned: Collection[int]) -> bytes:
    """A member's metadata: the topic that it reads and its partitions of it."""
    mine = [(topic, sorted(owned))] if owned else []
    encoded: bytes = ProtocolMetadata(_OWNED_VERSION, [topic], b"").encode() + _OWNED.encode(mine)
    return encoded


def owned_in(metadata: bytes) -> frozenset[int]:
    """The partitions that a member's metadata names as its own."""
    data = BytesIO(metadata)
    ProtocolMetadata.decode(data)
    return frozenset(number for _, numbers in _OWNED.decode(data) for number in numbers)


def assignment_of(topic: str, share: Iterable[int]) -> bytes:
    """A member's part of the leader's answer."""
    encoded: bytes = MemberAssignment(_OWNED_VERSION, [(topic, sorted(share))], b"").encode()
    return encoded


def assigned_in(assignment: bytes) -> frozenset[int]:
    """The partitions of it; none when it is empty."""
    if not assignment:
        return frozenset()
    return frozenset(
        number for _, numbers in MemberAssignment.decode(assignment).assignment for number in numbers
    )


class Member:
    """One member with a connection of its own, as a worker has."""

    def __init__(self, plan: Plan, owners: Owners, changed: Callable[[], None]) -> None:
        """`changed` is called whenever its share has."""
        self._plan, self._owners, self._changed = plan, owners, changed
        self._connection: Any = None
        self._id = ""
        self._task: asyncio.Task[None] | None = None
        self._beaten_at = 0.0
        self.owned: frozenset[int] = frozenset()
        self.generation = -1
        self.joined = False
        """It is in the generation, and has what was assigned to it."""

    async def connect(self) -> None:
        """Find the coordinator and connect to it."""
        plan = self._plan
        connection: Any = AIOKafkaConnection(plan.host, plan.port, request_timeout_ms=_PATIENCE_MS)
        await connection.connect()
        while (found := await connection.send(FindCoordinatorRequest(plan.group, 0))).error_code:
            # The topic of offsets comes with the first group.
            if for_code(found.error_code) is not GroupCoordinatorNotAvailableError:
                raise for_code(found.error_code)("no coordinator")
            await asyncio.sleep(_RETRY_S)
        connection.close()
        self._connection = AIOKafkaConnection(found.host, found.port, request_timeout_ms=_PATIENCE_MS)
        await self._connection.connect()

    def start(self) -> asyncio.Task[None]:
        """Join, and stay a member. The task ends with an error only."""
        self._task = asyncio.create_task(self._run())
        return self._task

    async def leave(self) -> None:
        """Say goodbye, as a worker does that is told to stop."""
        await self._stop()
        answer = await self._connection.send(LeaveGroupRequest(self._plan.group, self._id))
        _check(answer.error_code)
        self._connection.close()
        self._drop(self.owned)

    async def die(self) -> float:
        """Go without a word, as a killed worker; when its last sign of life was, by the monotonic clock."""
        await self._stop()
        self._connection.close()
        self._drop(self.owned)
        return self._beaten_at

    async def commit(self, offset: int) -> None:
        """Commit the offset for its whole share, and wait for the broker's answer."""
        share = [(number, offset, "") for number in self.owned]
        request = OffsetCommitRequest(
            self._plan.group, self.generation, self._id, -1, [(self._plan.topic, share)]
        )
        answer = await self._connection.send(request)
        self._beaten_at = time.monotonic()  # a commit is a sign of life, too
        for _, numbers in answer.topics:
            for _, code in numbers:
                _check(code)

    async def _run(self) -> None:
        while True:
            if await self._round():
                await self._beat()

    async def _round(self) -> bool:
        """Join and take what is assigned; whether that was all of it, or another round has to follow."""
        self.joined = False
        joined = await self._join()
        shares: list[tuple[str, bytes]] = []
        if joined.leader_id == self._id:
            shares = self._assign(joined.members)
        request = SyncGroupRequest(self._plan.group, joined.generation_id, self._id, None, shares)
        answer = await self._connection.send(request)
        self._beaten_at = time.monotonic()
        if for_code(answer.error_code) is RebalanceInProgressError:
            return False
        _check(answer.error_code)
        assigned = assigned_in(answer.member_assignment)
        gone, new = self.owned - assigned, assigned - self.owned
        self._drop(gone)
        self._owners.give(self._id, new)
        self.owned, self.generation, self.joined = assigned, joined.generation_id, not gone
        self._changed()
        return not gone

    async def _join(self) -> Any:
        plan = self._plan
        while True:
            protocols = [(PROTOCOL, metadata_of(plan.topic, self.owned))]
            request = JoinGroupRequest(
                plan.group, plan.session_timeout_ms, _PATIENCE_MS, self._id, None, "consumer", protocols
            )
            answer = await self._connection.send(request)
            self._beaten_at = time.monotonic()
            if for_code(answer.error_code) is not MemberIdRequired:
                break
            self._id = answer.member_id  # KIP-394: the first answer is the name to come back with
        _check(answer.error_code)
        self._id = answer.member_id
        return answer

    def _assign(self, members: Sequence[tuple[str, str | None, bytes]]) -> list[tuple[str, bytes]]:
        owned = {member: owned_in(metadata) for member, _, metadata in members}
        shares = this_round(even_shares(self._plan.partitions, owned), owned)
        return [(member, assignment_of(self._plan.topic, share)) for member, share in shares.items()]

    async def _beat(self) -> None:
        """Until a rebalance is told of."""
        while True:
            await asyncio.sleep(self._plan.heartbeat_ms / 1000)
            request = HeartbeatRequest(self._plan.group, self.generation, self._id)
            answer = await self._connection.send(request)
            self._beaten_at = time.monotonic()
            if for_code(answer.error_code) is RebalanceInProgressError:
                return
            _check(answer.error_code)

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _drop(self, numbers: frozenset[int]) -> None:
        self._owners.take(numbers)
        self.owned -= numbers


def _check(code: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error("the broker refused a member's request")
