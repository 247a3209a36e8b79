"""Faults of the worker itself: it is killed, told to stop, joined by another, cannot write its log."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.acceptance.faults.site import Site
from tests.acceptance.faults.traffic import marked
from tests.acceptance.worker_process import Spawn, WorkerProcess

# A fault comes at any moment of the worker's rounds, which are far shorter.
_MOMENT_S: Final = (0.2, 1.5)
# An answer that takes so long holds back the commits of its partition meanwhile.
SLOW_MARK: Final = "[[rsafe-fault slow:3s]]"
_BEHIND: Final = 10
_JOIN_S: Final = 60.0
# From the start of a second worker to its partitions; a worker is up after some two seconds.
_REBALANCE_S: Final = (0.0, 1.0)


def killed_at_random(site: Site, rng: random.Random) -> None:
    """SIGKILL, and another worker at once, as a scheduler would start it."""
    time.sleep(rng.uniform(*_MOMENT_S))
    _replace(site)


def killed_with_a_slow_head(site: Site, rng: random.Random) -> None:
    """SIGKILL while one judgement takes long, and everything behind it in its partition is decided."""
    before = site.load.ends()
    site.load.add([marked(SLOW_MARK, rng)])
    enough = site.watch.answers() + rng.randrange(3 * _BEHIND, 12 * _BEHIND)
    site.watch.wait(
        lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="answers behind a slow one"
    )
    assert before, "nothing was published before the slow event"
    _replace(site)


def killed_before_the_commit(site: Site, rng: random.Random) -> None:
    """SIGKILL when decisions are delivered that are not committed; the row's commits are a minute apart."""
    enough = site.watch.answers() + rng.randrange(5, 60)
    site.watch.wait(
        lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="decisions to be committed"
    )
    _replace(site)


def killed_during_a_rebalance(site: Site, rng: random.Random) -> None:
    """A second worker joins; about when partitions move, one of the two is killed and the other goes on."""
    (old,) = site.workers
    new = site.start()
    site.until(
        lambda: _says(new, "The checks before the start have passed."), timeout_s=_JOIN_S, awaited="join"
    )
    time.sleep(rng.uniform(*_REBALANCE_S))
    site.begins()
    site.kill(rng.choice((old, new)))
    site.ends()


def terminated(site: Site, rng: random.Random) -> None:
    """SIGTERM under load; another one starts when it has drained."""
    time.sleep(rng.uniform(*_MOMENT_S))
    (worker,) = site.workers
    site.begins()
    site.stop(worker)
    site.start()
    site.ends()


def joined_and_left(site: Site, rng: random.Random) -> None:
    """A second worker joins, and after a while the first leaves."""
    (old,) = site.workers
    site.begins()
    new = site.start()
    site.until(
        lambda: bool(site.partitions(new)), timeout_s=_JOIN_S, awaited="partitions of a worker that joined"
    )
    time.sleep(rng.uniform(*_MOMENT_S))
    site.stop(old)
    site.ends()


def without_a_log(site: Site, rng: random.Random) -> None:
    """A worker whose output goes where nothing can be written: a full device, a closed or read-only file."""
    (worker,) = site.workers
    site.stop(worker)
    site.begins()
    mute = site.start(spawn=rng.choice(UNWRITABLE))
    site.ends()
    enough = site.watch.answers() + _BEHIND
    site.watch.wait(
        lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="answers of a mute worker"
    )
    site.stop(mute)
    site.start()


def with_a_wrong_clock(hours: float) -> Callable[[Site, random.Random], None]:
    """A worker whose clock is off takes the place of the first, and goes again."""

    def spawn(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.acceptance.faults.wrong_clock", f"{hours * 3600:.0f}"]
        with log.open("ab") as output:
            return _started([*program, "worker"], environment, output.fileno())

    def fault(site: Site, rng: random.Random) -> None:
        (worker,) = site.workers
        site.stop(worker)
        site.begins()
        wrong = site.start(spawn=spawn)
        site.ends()
        enough = site.watch.answers() + _BEHIND
        site.watch.wait(
            lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="answers under a wrong clock"
        )
        time.sleep(rng.uniform(*_MOMENT_S))
        site.stop(wrong)
        site.start()

    return fault


def only_malformed(duration_s: float, short_s: float) -> Callable[[Site, random.Random], None]:
    """Nothing but malformed input for so long."""

    def fault(site: Site, rng: random.Random) -> None:
        site.begins()
        time.sleep(short_s if site.short else duration_s)
        site.ends()

    return fault


def _replace(site: Site) -> None:
    (worker,) = site.workers
    site.begins()
    site.kill(worker)
    site.ends()
    site.start()


def _says(worker: WorkerProcess, sentence: str) -> bool:
    worker.assert_alive()
    return any(sentence in line for line in worker.log_lines())


def _to_a_full_device(environment: Mapping[str, str], _log: Path) -> subprocess.Popen[bytes]:
    with Path("/dev/full").open("wb") as full:
        return _started(_WORKER, environment, full.fileno())


def _to_a_read_only_file(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    log.touch()
    with log.open("rb") as read_only:
        return _started(_WORKER, environment, read_only.fileno())


def _to_a_closed_file(environment: Mapping[str, str], _log: Path) -> subprocess.Popen[bytes]:
    return _started(["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *_WORKER], environment, subprocess.DEVNULL)


def _started(command: Sequence[str], environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


_WORKER: Final = (sys.executable, "-m", "workers", "worker")
UNWRITABLE: Final[tuple[Spawn, ...]] = (_to_a_full_device, _to_a_read_only_file, _to_a_closed_file)
