"""`rsafe train export`: the file, the summary and the exit codes; Kafka is replaced."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.workers.moderation.builders import make_event
from tests.unit.workers.test_review_export import FORM, event_record, make_review, record
from workers.adapters.origins import Gone
from workers.adapters.topics_io import Record
from workers.commands import train_export as module
from workers.commands.train_export import ReviewsLeft, export, write_rows
from workers.errors import StreamStopped, UsageError
from workers.review_export import Row

TEXT = "the text of the message"


class Kafka:
    """A reviews topic and what stands at the coordinates."""

    def __init__(self) -> None:
        events = [make_event(event_id=f"e-{n}", conversation_id=f"c-{n}", text=TEXT) for n in range(3)]
        self.reviews = [record(make_review(n, event), n) for n, event in enumerate(events)]
        self.events: list[Record | Gone] = [event_record(event, n) for n, event in enumerate(events)]
        self.wanted: Any = None
        self.failure: Exception | None = None

    def read(self, options: Any, topic: str, **_: Any) -> Iterator[list[Record]]:
        assert topic == "moderation.reviews"
        yield self.reviews

    def fetch(self, options: Any, wanted: Any, **_: Any) -> Iterator[Record | Gone]:
        self.wanted = wanted
        yield from self.events
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    found = Kafka()
    monkeypatch.setattr(module, "read_whole", found.read)
    monkeypatch.setattr(module, "fetch_records", found.fetch)
    return found


def run(output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(export, ["--output", str(output), *arguments])


def test_rows_are_written_one_a_line_for_the_owner_alone(kafka: Kafka, tmp_path: Path) -> None:
    result = run(tmp_path / "rows.jsonl")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == [TEXT] * 3
    assert {"id", "source", "split", "kind", "messages", "label", "categories", "licence", "meta"} == {
        *rows[0]
    }
    assert (rows[0]["licence"], rows[0]["meta"]["policy"]) == ("LicenseRef-own-reviews", "community")
    ((place, offsets),) = kafka.wanted.items()
    assert (place, sorted(offsets)) == (("chat.events", 2), [0, 1, 2])
    assert stat.S_IMODE((tmp_path / "rows.jsonl").stat().st_mode) == 0o600
    assert "3 rows (unsafe 3) of 3 records" in result.stdout
    assert TEXT not in result.output


def test_a_compressed_file_is_the_same_each_time(kafka: Kafka, tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        assert run(tmp_path / name).exit_code == 0
    content = (tmp_path / "one.jsonl.gz").read_bytes()
    assert (tmp_path / "two.jsonl.gz").read_bytes() == content
    assert len(gzip.decompress(content).splitlines()) == 3


def test_what_was_left_out_is_counted_and_expired_events_are_no_failure(kafka: Kafka, tmp_path: Path) -> None:
    kafka.events = [Gone("chat.events", 2, 0, "expired"), *kafka.events[1:]]
    kafka.reviews.append(kafka.reviews[1])
    result = run(tmp_path / "rows.jsonl")
    assert result.exit_code == 0, result.output
    assert (
        "left out: 1 followed by a later review of the same decision, 1 of events that have expired"
        in result.stdout
    )
    report = json.loads(run(tmp_path / "rows.jsonl", "--json").stdout)
    assert (report["gone"], report["rows"], report["superseded"]) == ({"expired": 1}, {"unsafe": 2}, 1)


def test_what_is_no_review_or_leads_to_another_event_ends_with_1_and_the_rest_is_written(
    kafka: Kafka, tmp_path: Path
) -> None:
    kafka.reviews.append(record(b"no review", 9))
    kafka.events[0] = event_record(make_event(event_id="another"), 0)
    result = run(tmp_path / "rows.jsonl")
    assert isinstance(result.exception, ReviewsLeft)
    assert result.exception.exit_code == 1
    assert str(result.exception) == "2 reviews could not be used: other_event 1, undecodable 1"
    assert "moderation.reviews partition 2 offset 9: not a review" in result.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_reviews_of_a_topic_that_may_not_be_read_end_with_1_and_the_rest_is_written(
    kafka: Kafka, tmp_path: Path
) -> None:
    kafka.events[0] = Gone("chat.events", 2, 0, "refused")
    result = run(tmp_path / "rows.jsonl")
    assert isinstance(result.exception, ReviewsLeft)
    assert str(result.exception) == "1 reviews could not be used: refused 1"
    assert "left out: 1 of events of topics that may not be read" in result.stdout
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_run_that_fails_leaves_the_older_file_as_it_was(kafka: Kafka, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("older")
    kafka.failure = StreamStopped("the broker has fallen silent")
    assert isinstance(run(tmp_path / name).exception, StreamStopped)
    assert (tmp_path / name).read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_cannot_be_written_is_named(kafka: Kafka, tmp_path: Path) -> None:
    result = run(tmp_path / "absent" / "rows.jsonl")
    assert isinstance(result.exception, UsageError)
    assert "rows.jsonl: cannot be written: No such file or directory" in str(result.exception)


def test_an_error_of_the_rows_source_is_not_taken_for_one_of_the_file(kafka: Kafka, tmp_path: Path) -> None:
    kafka.failure = OSError(5, "Input/output error")
    result = run(tmp_path / "rows.jsonl")
    assert result.exception is kafka.failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_two_exports_to_one_file_do_not_meet(tmp_path: Path, name: str) -> None:
    """The one that ends last stands, whole, whatever the other one did meanwhile."""
    row = FORM.row(make_review(), make_event())

    def outer() -> Iterator[Row]:
        yield row
        write_rows(tmp_path / name, [row])
        yield row

    write_rows(tmp_path / name, outer())
    content = (tmp_path / name).read_bytes()
    assert len((gzip.decompress(content) if name.endswith("gz") else content).splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_disk_that_is_full_is_told(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(**_: Any) -> tuple[int, str]:
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "partial")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    result = run(tmp_path / name)
    assert isinstance(result.exception, UsageError)
    assert f"{name}: cannot be written: No space left on device" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_dev_and_the_licence_are_chosen(kafka: Kafka, tmp_path: Path) -> None:
    assert run(tmp_path / "r", "--dev-share", "1", "--licence", "CC0-1.0").exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert {(row["split"], row["licence"]) for row in rows} == {("dev", "CC0-1.0")}
    assert run(tmp_path / "r", "--dev-share", "2").exit_code == 2
