"""What a user of Redis must be allowed to do: the one list, for checks, for operators and for tests."""

from __future__ import annotations

from typing import Final, Literal, get_args

Topology = Literal["standalone", "cluster", "sentinel"]
Task = Literal["worker", "cache", "sentinels"]
"""`cache`: `rsafe cache`. `sentinels`: what their own users need, whoever asks them for the master."""
TASKS: tuple[Task, ...] = get_args(Task)
KEY_PATTERN: Final = "rsafe:*"
"""The keys that are used. Sentinels have none."""


def commands(
    topology: Topology, task: Task = "worker", *, leases: bool = False, database: bool = False
) -> tuple[str, ...]:
    """The least that `task` runs, as ACLs spell it.

    `leases`: with `RSAFE_CACHE__LEASE_MS`. `database`: where the URL names another one than 0. `AUTH` is
    allowed to everybody; the connections send nothing else by themselves (no `HELLO`, no `CLIENT SETINFO`).
    """
    if task == "sentinels":
        return ("sentinel|masters",)
    if task == "cache":
        found = ["get", "info", "memory|usage", "pttl", "scan", "unlink"]
    else:
        # In a cluster the keys of one command must be of one slot.
        found = ["ping", "get" if topology == "cluster" else "mget", "set"]
        if leases:
            found += [name for name in ("get", "unlink") if name not in found]
    if topology == "cluster":
        found.append("cluster|slots")
    if database:
        found.append("select")
    return tuple(found)


def whole_name(command: str) -> str:
    """A command with the subcommand that is run of it. Redis 6 refuses in the name of the command alone."""
    every = (name for topology in get_args(Topology) for task in TASKS for name in commands(topology, task))
    return next((name for name in every if name.startswith(f"{command}|")), command)


def acl_command(user: str, allowed: tuple[str, ...], *, keys: bool = True) -> str:
    """The command of Redis that makes a user with these rights."""
    pattern = [f"~{KEY_PATTERN}"] if keys else []
    return " ".join(["ACL SETUSER", user, "on", ">PASSWORD", *pattern, *(f"+{name}" for name in allowed)])
