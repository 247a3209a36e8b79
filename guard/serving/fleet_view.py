"""What can be seen of a fleet of servers at any moment, for metrics, health page and log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from guard.serving.remote_balance import STATES

# Why a server is ejected: nobody answers there; it fails; it is silent; it is not what was expected.
EJECTIONS: Final = ("unreachable", "failing", "silent", "refused")


class EndpointView(msgspec.Struct, frozen=True):
    """One server: its address, its state, and in a sentence why it gets no calls (empty: it does)."""

    name: str
    state: str
    why: str
    calls: int
    tokens: int


class FleetView(msgspec.Struct, frozen=True):
    """All servers, and what was counted since the engine was made."""

    endpoints: tuple[EndpointView, ...] = ()
    retries: int = 0
    """Calls sent to another server, or again, after a failure."""
    ejections: Mapping[str, int] = {}
    """By why, of `EJECTIONS`."""

    def states(self) -> dict[str, int]:
        """How many servers are in each state."""
        counts = dict.fromkeys(STATES, 0)
        for one in self.endpoints:
            counts[one.state] += 1
        return counts


Told = Callable[[str, str, str], None]
"""Is told an address, `serving` or `ejected`, and why; must not wait."""


@runtime_checkable
class HasFleet(Protocol):
    """An engine that runs on servers elsewhere."""

    def fleet(self) -> FleetView: ...

    def tell(self, told: Told) -> None:
        """Tell of every server that is ejected, or is back, from now on."""
        ...


class Looked(NamedTuple):
    """What one look at a server found."""

    server: str
    version: str = ""
    """Of its vLLM, where it is as expected."""
    why: str = ""
    """Why it gets no calls, one sentence; empty: it would."""
    answers: bool = False
    """Whether it answered, so that waiting does not mend it."""


@runtime_checkable
class HasServers(Protocol):
    """An engine whose servers can be looked at while it is not running."""

    async def look(self, timeout_s: float) -> Sequence[Looked]:
        """One look at every server; one result each, in the order of the settings."""
        ...
