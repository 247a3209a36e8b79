"""A dead letter of a real worker, put back in vain and then with success."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.keys import record_key
from schemas.redrive import read_mark
from tests.integration.worker.harness import Topics, event
from tests.waiting import wait_for
from workers.adapters.topics_io import Record, read_records
from workers.commands.redrive import redrive

POLICY = """\
id: added-later
version: "1"
threshold: 0.5
mode: fast
categories:
  - {code: A1, title: A, definition: Something forbidden., action: block}
"""


def test_a_letter_becomes_a_decision_once_its_policy_is_there(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown policy → dead letter → redriven in vain, attempts 2 → policy added → redriven → a decision."""
    folder = topics.folder / "policies"
    folder.mkdir()
    (folder / "first.yaml").write_text(POLICY.replace("added-later", "there-already"))
    changes = {"RSAFE_POLICIES__PATH": str(folder), "RSAFE_POLICIES__DEFAULT": "there-already"}
    for name, setting in topics.environment.items():
        if name.startswith("RSAFE_KAFKA__"):
            monkeypatch.setenv(name, setting)
    value = event("late-policy", "acme", "room", "some text", policy="added-later")
    topics.produce([value], [record_key("acme", "room")], headers=[("traceparent", b"kept")])

    first = topics.start(**changes)
    wait_for(lambda: len(_letters(topics)) == 1, "the dead letter")
    assert "1 put back (unknown_policy 1)" in _run("--reason", "unknown_policy").stdout
    wait_for(lambda: len(_letters(topics)) == 2, "the second dead letter")
    once, twice = _letters(topics)
    assert (once.attempts, twice.attempts) == (1, 2)
    assert (once.partition, once.offset) != (twice.partition, twice.offset)
    assert first.stop() == 0

    (folder / "second.yaml").write_text(POLICY)
    second = topics.start(**changes)
    assert "1 put back (unknown_policy 1)" in _run().stdout
    topics.wait_decided(1)
    (decision,) = topics.decisions()
    assert (decision.event_id, decision.policy.id) == ("late-policy", "added-later")
    (record,) = [
        record
        for record in _read(topics, "events")
        if (record.partition, record.offset) == (decision.origin.partition, decision.origin.offset)
    ]
    headers = dict(record.headers)
    assert (record.value, record.key, headers["traceparent"]) == (value, b"acme/room", b"kept")
    assert headers["rsafe-origin-offset"] == str(once.offset).encode()
    assert headers["rsafe-attempts"] == b"2"
    assert second.stop() == 0
    assert "left: 2 put back before" in _run().stdout


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(redrive, [*arguments], catch_exceptions=False)


def _letters(topics: Topics) -> list[DeadLetter]:
    letters = [
        read_dead_letter(one.headers) for one in _read(topics, "dead") if read_mark(one.headers) is None
    ]
    return sorted(letters, key=lambda letter: letter.attempts)


def _read(topics: Topics, topic: str) -> list[Record]:
    options = {"bootstrap.servers": topics.bootstrap}
    batches = read_records(options, f"{topics.name}.{topic}", start="beginning", follow=False, timeout_s=30)
    return [record for batch in batches for record in batch]
