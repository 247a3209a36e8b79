"""`rsafe redrive`: options, progress and summary; Kafka is replaced."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from schemas.dead_letter import DeadLetter, DeadLetterReason, dead_letter_headers
from schemas.redrive import Headers
from workers.adapters.topics_io import Record
from workers.commands import redrive as module
from workers.commands.redrive import LettersLeft, progress, redrive
from workers.errors import StreamStopped
from workers.redrive import Outgoing
from workers.redrive_account import Found, Summary

NOW_MS = 1_800_000_000_000
TEXT = b"nobody may see this"


class FakeKafka:
    """The dead-letters topic with one letter of each kind, and a writer that remembers."""

    partitions = frozenset({0})

    def __init__(self) -> None:
        self.records = [
            self.record(0, "unknown_policy", NOW_MS - 3_600_000),
            self.record(1, "invalid", NOW_MS - 1000, field="$.a\x1b[31m"),
            self.record(2, "unknown_policy", NOW_MS),
        ]
        self.written: list[Outgoing] = []
        self.writers: list[tuple[Any, ...]] = []
        self.refuses = False

    @staticmethod
    def record(offset: int, reason: DeadLetterReason, timestamp_ms: int, field: str = "$") -> Record:
        letter = DeadLetter(
            topic="chat.events", partition=2, offset=offset + 10, reason=reason, sentence="s", field=field
        )
        headers: Headers = [*dead_letter_headers(letter)]
        return Record("moderation.dead-letters", 0, offset, timestamp_ms, b"k", TEXT, headers)

    def all(self) -> Iterator[list[Record]]:
        yield self.records

    def span(self, partition: int, first: int, last: int) -> Iterator[list[Record]]:
        yield self.records

    def write(self, records: Sequence[Outgoing]) -> bool:
        if not self.refuses:
            self.written.extend(records)
        return not self.refuses


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    fake = FakeKafka()

    def writer(*arguments: Any, **_: Any) -> FakeKafka:
        fake.writers.append(arguments)
        return fake

    monkeypatch.setattr(module, "DeadLetters", lambda *_, **__: fake)
    monkeypatch.setattr(module, "TransactionalWriter", writer)
    return fake


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(redrive, [*arguments])


def test_the_summary_says_what_went_and_what_was_left(kafka: FakeKafka) -> None:
    result = _run("--reason", "unknown_policy")
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first == "moderation.dead-letters: 3 dead letters"
    assert second.startswith("chat.events: 2 put back (unknown_policy 2) in ")
    assert third == "left: 1 not chosen"
    assert [record.topic for record in kafka.written] == ["chat.events", "moderation.dead-letters"] * 2
    assert kafka.writers[0][1:] == ("rsafe-redrive-moderation.dead-letters", "chat.events")


def test_times_choose_letters(kafka: FakeKafka) -> None:
    assert _run("--since", "2027-01-15T07:30:00Z", "--until", "2027-01-15T08:00:00Z").exit_code == 0
    assert [dict(one.headers).get("rsafe-origin-offset") for one in kafka.written[::2]] == [b"11"]


def test_a_limit_is_kept_and_told(kafka: FakeKafka) -> None:
    result = _run("--limit", "1")
    assert len(kafka.written) == 2
    assert "left: 2 not looked at" in result.stdout


def test_a_trial_run_shows_and_writes_nothing(kafka: FakeKafka) -> None:
    result = _run("--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        "moderation.dead-letters/0/0  unknown_policy  $  chat.events/2/10  attempts 1",
        "moderation.dead-letters/0/1  invalid  $.a\\x1b[31m  chat.events/2/11  attempts 1",
    ]
    assert "chat.events: 3 would be put back (unknown_policy 2, invalid 1)" in result.stdout
    assert (kafka.written, kafka.writers) == ([], [])
    assert TEXT.decode() not in result.output


def test_records_that_are_no_letters_are_named(kafka: FakeKafka) -> None:
    kafka.records.append(Record("moderation.dead-letters", 0, 3, 0, None, TEXT, []))
    result = _run()
    assert isinstance(result.exception, LettersLeft)
    assert str(result.exception) == "records of moderation.dead-letters: 1 could not be read"
    assert result.stderr == "moderation.dead-letters partition 0 offset 3: not a dead letter\n"
    assert len(kafka.written) == 6


def test_refused_records_are_named(kafka: FakeKafka) -> None:
    kafka.refuses = True
    result = _run("--reason", "invalid")
    assert isinstance(result.exception, LettersLeft)
    assert "partition 0 offset 1: larger than chat.events takes; raise its max.message.bytes" in result.stderr
    assert "left: 2 not chosen, 1 larger than chat.events takes" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reason", "bad"], "'--reason': 'bad' is not one of 'empty', "),
        (
            ["--since", "yesterday"],
            "'--since': expected a time as in RFC 3339, with an offset, or how long ago",
        ),
        (["--since", "2026-01-31T12:00:00"], "'--since': expected a time as in RFC 3339, with an offset"),
        (["--until", "5x"], "'--until': expected a time"),
        (["--since", "1h", "--until", "2h"], "'--until': expected a time after --since"),
        (["--limit", "0"], "'--limit': 0 is not in the range x>=1"),
    ],
)
def test_a_bad_option_is_named_with_what_was_expected(
    kafka: FakeKafka, arguments: list[str], message: str
) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert kafka.writers == []


def test_progress_is_told_about_once_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 0.4, 1.1, 1.1, 1.5, 2.2, 2.2])
    found, summary = Found(letters=1000), Summary(not_chosen=5)
    told = progress(lambda: next(now), found, summary)
    for _ in range(4):
        summary.put_back["invalid"] += 100
        told()
    assert capsys.readouterr().err.splitlines() == [
        "1000 dead letters, 205 looked at, 200 put back …",
        "1000 dead letters, 405 looked at, 400 put back …",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StreamStopped("another run has begun")])
def test_what_went_is_told_even_when_a_run_does_not_end_well(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("workers.redrive.BATCH_RECORDS", 1)
    original, calls = kafka.write, itertools.count()

    def write(records: Sequence[Outgoing]) -> bool:
        if next(calls) == 1:
            raise error
        return original(records)

    monkeypatch.setattr(kafka, "write", write)
    result = _run()
    assert result.exit_code != 0
    assert "chat.events: 1 put back (unknown_policy 1)" in result.stdout
    assert "left: 2 not looked at" in result.stdout
