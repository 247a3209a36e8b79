"""What everybody knows when work does not resume: the load, the broker, the group, the follower, the worker.

Tells whose fault a standstill is, since client libraries of the test's own stand between the worker and the
verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import KafkaException

from tests.acceptance.faults.site import Site


def facts(site: Site) -> Iterator[str]:
    """One line a fact; what cannot be asked says why. No text of a message is in them."""
    asked: tuple[tuple[str, Callable[[], object]], ...] = (
        ("load", site.load.state),
        ("answers that the follower has seen", site.watch.answers),
        ("offsets that the group has committed", site.committed),
        ("ends of the topics of the events and the outcomes", site.topic_ends),
        ("members of the group", site.members),
    )
    for name, ask in asked:
        try:
            yield f"{name}: {ask()}"
        except (KafkaException, AssertionError, TimeoutError) as error:
            yield f"{name}: {type(error).__name__}: {error}"
    for worker in site.workers:
        yield f"threads of worker {worker.pid}: {_threads(worker.pid)}"


def _threads(pid: int) -> dict[str, int]:
    """Name of a thread and where the kernel has it wait → how many."""
    found: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (task / "comm").read_text().strip()
            waits = (task / "wchan").read_text().strip()
        except OSError:  # it ended meanwhile
            continue
        found[f"{name} {waits}"] = found.get(f"{name} {waits}", 0) + 1
    return found
