"""Faults of vLLM's engine process, the worker staying as it is."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Final

from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.traffic import marked

_MOMENT_S: Final = (0.5, 4.0)
# An event with this mark kills the engine process in every call.
DEADLY_MARK: Final = "[[rsafe-fault kill]]"
_BACK_S: Final = 300.0


def killed(site: Site, rng: random.Random) -> None:
    """SIGKILL to the engine process; the worker brings up another one."""
    time.sleep(rng.uniform(*_MOMENT_S))
    site.begins()
    os.kill(engine_process(site), signal.SIGKILL)
    site.ends()


def hung(site: Site, rng: random.Random) -> None:
    """SIGSTOP to the engine process: it is there, and nothing comes out of it."""
    time.sleep(rng.uniform(*_MOMENT_S))
    frozen = engine_process(site)
    site.begins()
    os.kill(frozen, signal.SIGSTOP)
    site.until(
        lambda: not Path(f"/proc/{frozen}").exists(),
        timeout_s=_BACK_S,
        awaited="end of the engine that hangs",
    )
    site.ends()


def killed_by_an_event(site: Site, rng: random.Random) -> None:
    """An event kills the engine whenever it is judged: alone at two deaths, it becomes a dead letter."""
    time.sleep(rng.uniform(*_MOMENT_S))
    site.begins()
    site.load.add([marked(DEADLY_MARK, rng, due=DeadLetterDue("poisoned"))])
    ends = site.load.ends()
    site.watch.wait_answered(ends, timeout_s=_BACK_S, each=site.assert_alive)
    site.ends()


def engine_process(site: Site) -> int:
    """The process in which vLLM computes: of the worker's children the one that takes most memory."""
    (worker,) = site.workers
    children = worker.children()
    assert children, "the worker has no child process"
    return max(children, key=_resident_pages)


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
