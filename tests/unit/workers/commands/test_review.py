"""`rsafe review`: a person's word on a decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from schemas.review import Review
from tests.unit.workers.conduct.world import decision
from workers.adapters.topics_io import Record
from workers.commands import review as module
from workers.commands.review import review
from workers.errors import UsageError

MADE = decision(2, 2)
VALUES = (
    b"no json, but " + MADE.decision_id.encode(),
    None,
    msgspec.json.encode(decision(1, 1, supersedes=MADE.decision_id)),
    msgspec.json.encode(MADE),
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Records that were published, once `finish` was called."""
    acknowledged: list[tuple[bytes, bytes]] = []

    class Writer:
        def __init__(self, _: Any, topic: str, **__: Any) -> None:
            assert topic == "moderation.reviews"
            self.waiting: list[tuple[bytes, bytes]] = []

        def send(self, key: bytes, value: bytes) -> None:
            self.waiting.append((key, value))

        def finish(self) -> None:
            acknowledged.extend(self.waiting)

    def read(_: Any, topic: str, **__: Any) -> Iterator[list[Record]]:
        assert topic == "moderation.decisions"
        yield [Record(topic, 0, offset, 1, b"k", value, []) for offset, value in enumerate(VALUES)]

    monkeypatch.setattr(module, "RecordWriter", Writer)
    monkeypatch.setattr(module, "read_whole", read)
    return acknowledged


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(review, [*arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def test_a_review_names_the_decision_its_event_and_its_policy(sent: list[tuple[bytes, bytes]]) -> None:
    reply = run(MADE.decision_id, "--label", "safe", "--reviewer", "r", "--note", "a quotation").stdout
    ((key, value),) = sent
    made = msgspec.json.decode(value, type=Review)
    assert key == MADE.decision_id.encode() and made.decision_id == MADE.decision_id
    assert made.origin == MADE.origin and made.policy == MADE.policy
    assert (made.label, made.reviewer, made.note) == ("safe", "r", "a quotation")
    assert reply == f"{made.review_id} safe\n"


def test_an_unsafe_message_may_have_categories(sent: list[tuple[bytes, bytes]]) -> None:
    run(MADE.decision_id, "--label", "unsafe", "--category", "C1", "--category", "C2")
    made = msgspec.json.decode(sent[0][1], type=Review)
    assert list(made.categories) == ["C1", "C2"] and made.reviewer


def test_a_safe_message_has_none(sent: list[tuple[bytes, bytes]]) -> None:
    done = run(MADE.decision_id, "--label", "safe", "--category", "C1", code=2)
    assert "violates no category" in done.output and sent == []


def test_an_id_of_no_decision_publishes_nothing(sent: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UsageError, match="no decision with this id"):
        run("f" * 64, "--label", "safe")
    assert sent == []


def test_words_that_do_not_fit_the_schema_name_their_field(sent: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UsageError, match="note"):
        run(MADE.decision_id, "--label", "safe", "--note", "x" * 100_000)
    assert sent == []
