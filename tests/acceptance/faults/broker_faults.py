"""Faults of the broker: killed, frozen, a decision refused, the topic of the decisions gone."""

from __future__ import annotations

import random
import time
from typing import Final

from tests.acceptance.faults import server_faults
from tests.acceptance.faults.server_faults import MOMENT_S, Fault
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.traffic import with_large_decision
from workers.adapters.embedded_server import ServerProcess

_AWAY_S: Final = (0.0, 3.0)
# Over the session timeout of the worker, so that its partitions are taken from it.
_SHORTEST_FREEZE_S: Final = 8.0
# The client library asks for the topic again and again before it believes that it is gone.
_STOP_S: Final = 90.0
EXIT_STOPPED: Final = 4
# Below the size of two decisions, and above that of one whose names are not out of the ordinary.
SMALL_BYTES: Final = 2_600


def _broker(site: Site) -> ServerProcess:
    return site.stack.kafka


killed: Final = server_faults.killed(_broker, lambda _, rng: rng.uniform(*_AWAY_S))
"""SIGKILL, and some seconds later the same broker on the same folder."""


def frozen(freeze_s: float) -> Fault:
    """SIGSTOP for so long."""
    return server_faults.frozen(_broker, freeze_s, _SHORTEST_FREEZE_S)


def refuses_a_decision(site: Site, rng: random.Random) -> None:
    """The topic takes small decisions only, and some events have large ones; they become dead letters."""
    (worker,) = site.workers
    site.stop(worker)
    site.limit_output(SMALL_BYTES)
    site.start()
    time.sleep(rng.uniform(*MOMENT_S))
    site.begins()
    site.load.add(with_large_decision() for _ in range(5))
    site.watch.wait_answered(site.load.ends(), timeout_s=_STOP_S, each=site.assert_alive)
    site.limit_output(None)
    site.ends()


def output_deleted(site: Site, rng: random.Random) -> None:
    """The topic of the decisions is deleted: the worker stops uncommitted and says so; then it is made anew.

    What was decided before stands on the old topic and goes with it, so it is read to its end first.
    """
    rate_per_s = site.load.rate_per_s
    site.settle(_STOP_S)
    site.watch.forget_output()
    (worker,) = site.workers
    site.begins()
    site.delete_output()
    site.load.go(rate_per_s)
    site.workers.remove(worker)
    code = worker.wait_for_end(_STOP_S)
    assert code == EXIT_STOPPED, (
        f"exit code {code}; expected {EXIT_STOPPED}; its log ends:\n{worker.last_lines()}"
    )
    last = worker.log_lines()[-1]
    assert site.topics.decisions in last, f"the last line does not name the topic: {last}"
    time.sleep(rng.uniform(*MOMENT_S))
    site.make_topics()
    site.watch.follow_new_output()
    site.start()
    site.ends()
