"""Faults of vLLM's engine process, the worker staying as it is.

Every time the worker must be seen to hold: not ready while the engine is away, nothing committed that waits
for it, ready again afterwards.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Final

from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.faults import own_word
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.traffic import marked

_MOMENT_S: Final = (0.5, 4.0)
# An event with this mark kills the engine process in every call.
DEADLY_MARK: Final = "[[rsafe-fault kill]]"
_BACK_S: Final = 300.0
# A death is noticed at once, a hang after the hang timeout of the row.
_NOTICED_S: Final = 60.0
# Some commit intervals: what was answered is committed, and there is nothing more to commit.
_SETTLED_S: Final = 3.0
_LOOK_S: Final = 1.0
NOT_READY: Final = "the guard is not ready"


def killed(site: Site, rng: random.Random) -> None:
    """SIGKILL to the engine process; the worker brings up another one."""
    time.sleep(rng.uniform(*_MOMENT_S))
    site.begins()
    os.kill(engine_process(site), signal.SIGKILL)
    site.ends()
    assert_held(site)


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
    assert_held(site)


def killed_by_an_event(site: Site, rng: random.Random) -> None:
    """An event kills the engine whenever it is judged: alone at two deaths, it becomes a dead letter."""
    time.sleep(rng.uniform(*_MOMENT_S))
    site.begins()
    site.load.add([marked(DEADLY_MARK, rng, due=DeadLetterDue("poisoned"))])
    ends = site.load.ends()
    assert_held(site)
    site.watch.wait_answered(ends, timeout_s=_BACK_S, each=site.assert_alive)
    site.ends()
    site.until(lambda: _ready(site) is True, timeout_s=_BACK_S, awaited="worker that is ready again")


def assert_held(site: Site, *, settled_s: float = _SETTLED_S, look_s: float = _LOOK_S) -> None:
    """Wait until the engine is back; the worker must hold events meanwhile.

    Not ready must be seen, and events that wait for the guard; from then on the offsets stand still as long
    as it is away. Raises AssertionError when any of this is not so.
    """
    site.until(lambda: _ready(site) is False, timeout_s=_NOTICED_S, awaited=f"answer that {NOT_READY}")
    site.until(lambda: _holds(site), timeout_s=_NOTICED_S, awaited="event that waits for the guard")
    returns = 0.0

    def counted() -> bool:
        nonlocal returns
        returns = _returns(site)
        return returns > 0  # the first start counts

    site.until(counted, timeout_s=_NOTICED_S, awaited="count of the guard's returns")
    time.sleep(settled_s)
    end, before, looks = time.monotonic() + _BACK_S, site.committed(), 0
    while True:
        found = site.committed()
        # It may have come back before the offsets were read, and be gone again.
        if _returns(site) > returns:
            break
        if _ready(site) is False:
            assert found == before, f"offsets were committed while the guard was away: {before}, then {found}"
            looks += 1
        assert time.monotonic() < end, f"the guard was not back within {_BACK_S:.0f} s"
        time.sleep(look_s)
    assert looks, "the guard was back before it was seen that nothing is committed"
    site.until(lambda: _ready(site) is True, timeout_s=_BACK_S, awaited="worker that is ready again")


def _ready(site: Site) -> bool | None:
    """By the worker's word; None when it says nothing, or that something else is wrong than the guard."""
    site.assert_alive()
    (worker,) = site.workers
    match own_word.ask(worker, own_word.READY):
        case (200, _):
            return True
        case (503, text) if NOT_READY in text:
            return False
        case _:
            return None


def _returns(site: Site) -> float:
    """How often the guard has come up so far; 0 when the worker says nothing."""
    (worker,) = site.workers
    return sum(own_word.samples(worker, "rsafe_guard_restarts_total", outcome="answers") or [])


def _holds(site: Site) -> bool:
    (worker,) = site.workers
    return bool(own_word.samples(worker, "rsafe_oldest_uncommitted_seconds", waiting_for="hold"))


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
