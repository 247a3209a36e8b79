"""Faults of the worker itself: it is killed, told to stop, joined by another, cannot write its log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.acceptance.faults import own_word
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.traffic import marked, overdue
from tests.acceptance.records import Place
from tests.acceptance.worker_process import Spawn, WorkerProcess

# A fault comes at any moment of the worker's rounds, which are far shorter.
_MOMENT_S: Final = (0.2, 1.5)
# An answer that takes so long holds back the commits of its partition meanwhile.
SLOW_MARK: Final = "[[rsafe-fault slow:6s]]"
_BEHIND: Final = 10
# Records behind the slow one in its partition that are answered, or wait for it, when the worker is killed.
_BEHIND_THE_SLOW: Final = (24, 40)
_SLOW_TRIES: Final = 5
# The slow one must be seen to be at the guard for some of its time.
_AT_THE_GUARD_S: Final = 1.0
_JOIN_S: Final = 60.0
# A commit that was sent is written by the broker within milliseconds.
_UNDER_WAY_S: Final = 0.3
# These are read seconds after their deadline, and the guard needs longer than that for an answer.
_OVERDUE: Final = 12
_OVERDUE_MS: Final = 100
_OVERDUE_S: Final = 2.0
# From the start of a second worker to its partitions; a worker is up after some two seconds.
_REBALANCE_S: Final = (0.0, 1.0)


def killed_at_random(site: Site, rng: random.Random) -> None:
    """SIGKILL, and another worker at once, as a scheduler would start it."""
    time.sleep(rng.uniform(*_MOMENT_S))
    _replace(site)


def killed_with_a_slow_head(site: Site, rng: random.Random) -> None:
    """SIGKILL while one judgement takes long, and dozens behind it in its partition are answered."""
    _kill_behind_a_slow_one(site, rng, lambda head: site.watch.answered_behind(head))


def killed_with_a_slow_head_in_transactions(site: Site, rng: random.Random) -> None:
    """As above, but what is behind the slow one must wait: its offset cannot be committed before.

    So what counts are records that the worker has read behind it and holds back while the oldest of the
    partition, by the worker's word, is at the guard.
    """
    _kill_behind_a_slow_one(site, rng, lambda head: _waiting_behind(site, head))


def _kill_behind_a_slow_one(site: Site, rng: random.Random, behind: Callable[[Place], int]) -> None:
    """Raises AssertionError when the slow one is answered every time before enough is behind it."""
    for _ in range(_SLOW_TRIES):
        (head,) = site.load.add([marked(SLOW_MARK, rng)])
        enough = rng.randrange(*_BEHIND_THE_SLOW)

        def there(head: Place = head, enough: int = enough) -> bool:
            site.assert_alive()
            return behind(head) >= enough or site.watch.is_answered(head)

        site.watch.wait(there, timeout_s=_JOIN_S, awaited="records behind a slow one")
        if not site.watch.is_answered(head):
            _replace(site)
            return
    raise AssertionError(f"{_SLOW_TRIES} slow events were answered before {_BEHIND_THE_SLOW[0]} behind them")


def _waiting_behind(site: Site, head: Place) -> int:
    """Records behind `head` in its partition that wait for it; 0 while it is not known to be at the guard."""
    published = site.load.ends()[head.partition] - head.offset - 1
    if published < _BEHIND_THE_SLOW[0]:
        return 0
    (worker,) = site.workers
    committed = site.committed()
    text = own_word.ask(worker, own_word.METRICS)
    if text is None or committed[head.partition] != head.offset:
        return 0
    oldest, where = "rsafe_oldest_uncommitted_seconds", {"partition": str(head.partition)}
    at_guard = own_word.read_samples(text[1], oldest, waiting_for="guard", **where)
    if max(at_guard, default=0.0) < _AT_THE_GUARD_S:
        return 0
    if site.watch.answered_behind(head):
        # Decisions and offset are committed as one: either the slow one is done meanwhile, or this is wrong.
        committed = site.committed()
        assert committed[head.partition] > head.offset, (
            "committed decisions behind an offset that is not committed"
        )
        return 0
    # The worker tells how much it has read in all; what is not of other partitions is of this one.
    read = sum(own_word.read_samples(text[1], "rsafe_window_records"))
    elsewhere = sum(
        end - max(0, committed[number])
        for number, end in site.load.ends().items()
        if number != head.partition
    )
    return int(min(published, read - elsewhere - 1))


def killed_before_the_commit(site: Site, rng: random.Random) -> None:
    """SIGKILL when decisions are delivered that are not committed; the row's commits are a minute apart."""
    enough = site.watch.answers() + rng.randrange(5, 60)
    site.watch.wait(
        lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="decisions to be committed"
    )
    _replace(site)


def killed_in_a_transaction(site: Site, rng: random.Random) -> None:
    """SIGKILL when decisions stand on the topic whose transaction is not committed.

    The worker is stopped in its tracks first: if its transaction is then open still, nobody can commit it.
    """
    time.sleep(rng.uniform(*_MOMENT_S))
    (worker,) = site.workers
    end = time.monotonic() + _JOIN_S
    while True:
        assert time.monotonic() < end, f"no open transaction within {_JOIN_S:.0f} s"
        site.assert_alive()
        if not site.open_transactions():
            continue
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(_UNDER_WAY_S)  # a commit that it sent before
        if site.open_transactions():
            _replace(site)
            return
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(rng.uniform(*_MOMENT_S))


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


def without_a_log(site: Site, _rng: random.Random) -> None:
    """A worker whose output goes where nothing can be written: each of the ways in turn."""
    (worker,) = site.workers
    site.stop(worker)
    site.begins()
    mute = site.start(spawn=UNWRITABLE[site.repeat % len(UNWRITABLE)])
    site.ends()
    enough = site.watch.answers() + _BEHIND
    site.watch.wait(
        lambda: site.watch.answers() >= enough, timeout_s=_JOIN_S, awaited="answers of a mute worker"
    )
    site.stop(mute)
    site.start()


def with_a_wrong_clock(hours: float) -> Callable[[Site, random.Random], None]:
    """A worker whose clock is off takes the place of the first, and goes again.

    What is published while nobody reads, some of it with a deadline that passes meanwhile, is all it knows.
    """

    def spawn(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.acceptance.faults.wrong_clock", f"{hours * 3600:.0f}"]
        with log.open("ab") as output:
            return _started([*program, "worker"], environment, output.fileno())

    def fault(site: Site, rng: random.Random) -> None:
        (worker,) = site.workers
        site.stop(worker)
        site.begins()
        site.load.add(overdue(rng, _OVERDUE_MS) for _ in range(_OVERDUE))
        time.sleep(_OVERDUE_S)
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
