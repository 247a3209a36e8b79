"""Two workers of one name: one of them stops, and says why."""

from __future__ import annotations

import pytest

from tests.integration.worker.harness import Topics, events
from tests.waiting import PATIENCE_S, wait_for


@pytest.mark.parametrize(
    ("protocol", "stops", "words"),
    [
        ("classic", 0, ["FENCED_INSTANCE_ID", "another worker runs with the same"]),
        ("consumer", 1, ["UNRELEASED_INSTANCE_ID", "did not leave"]),
    ],
)
def test_one_of_two_workers_of_one_name_stops_and_the_other_goes_on(
    topics: Topics, protocol: str, stops: int, words: list[str]
) -> None:
    named = {"RSAFE_KAFKA__GROUP_PROTOCOL": protocol, "RSAFE_KAFKA__GROUP_INSTANCE_ID": "worker-0"}
    older = topics.start(**named)
    wait_for(older.partitions, "the older worker to have partitions")
    newer = topics.start(**named)
    workers = [older, newer]
    stopped, other = workers[stops], workers[1 - stops]
    assert stopped.process.wait(PATIENCE_S) == 4
    last = stopped.log.read_text().splitlines()[-1]
    assert last.startswith("rsafe: ")
    for word in [*words, "RSAFE_KAFKA__GROUP_INSTANCE_ID"]:
        assert word in last
    topics.produce(*events(20, topics.name))
    wait_for(lambda: topics.committed() == 20, "everything committed")
    assert other.stop() == 0
