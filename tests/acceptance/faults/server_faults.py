"""Faults that every server of the local stack can have: killed and started again, frozen."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from tests.acceptance.faults.site import Site
from workers.adapters.embedded_server import ServerProcess

# When a fault comes after the driver asked for it, in seconds.
MOMENT_S: Final = (0.2, 1.5)

Fault = Callable[[Site, random.Random], None]
Which = Callable[[Site], ServerProcess]


def killed(which: Which, away_s: Callable[[Site, random.Random], float]) -> Fault:
    """SIGKILL, and after `away_s` the server is started again where it was."""

    def fault(site: Site, rng: random.Random) -> None:
        time.sleep(rng.uniform(*MOMENT_S))
        site.begins()
        which(site).kill()
        time.sleep(away_s(site, rng))
        which(site).start()
        site.ends()

    return fault


def frozen(which: Which, freeze_s: float, shortest_s: float) -> Fault:
    """SIGSTOP for so long, in the short pass `shortest_s` at most: connections stay open, nothing answers."""

    def fault(site: Site, rng: random.Random) -> None:
        time.sleep(rng.uniform(*MOMENT_S))
        site.begins()
        which(site).suspend()
        time.sleep(min(freeze_s, shortest_s) if site.short else freeze_s)
        which(site).resume()
        site.ends()

    return fault
