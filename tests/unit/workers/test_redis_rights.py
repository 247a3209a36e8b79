"""The list of what a user of Redis must be allowed."""

from __future__ import annotations

from typing import get_args

import pytest

from workers.adapters.redis_leases import LEASE_PREFIX
from workers.moderation.recall_verdict import KEY_PREFIX
from workers.redis_rights import KEY_PATTERN, Topology, acl_command, commands

TOPOLOGIES: tuple[Topology, ...] = get_args(Topology)


def test_all_keys_are_those_of_the_pattern() -> None:
    for prefix in (KEY_PREFIX, LEASE_PREFIX):
        assert prefix.startswith(KEY_PATTERN.removesuffix("*"))


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("leases", [False, True])
def test_leases_add_what_they_run_and_nothing_is_named_twice(topology: Topology, leases: bool) -> None:
    found = commands(topology, leases=leases, database=topology != "cluster")
    assert len(set(found)) == len(found)
    assert (set(found) >= {"set", "get", "unlink"}) == leases
    assert ("cluster|slots" in found) == (topology == "cluster")
    assert ("select" in found) == (topology != "cluster")


def test_the_command_of_redis_grants_these_and_no_more() -> None:
    assert acl_command("me", ("ping", "cluster|slots")) == (
        "ACL SETUSER me on >PASSWORD ~rsafe:* +ping +cluster|slots"
    )
    assert acl_command("me", commands("sentinel", "sentinels"), keys=False) == (
        "ACL SETUSER me on >PASSWORD +sentinel|masters"
    )
