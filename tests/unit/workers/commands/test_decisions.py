"""`rsafe decisions`: records as rows, in three forms."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from schemas.dead_letter import DeadLetter, dead_letter_headers
from schemas.generate import FOLDER
from schemas.redrive import mark_headers
from workers.adapters.topics_io import Record
from workers.commands import decisions as module
from workers.commands.decision_rows import JsonRows, PlainRows, Row, TableRows, dead_letter_row, decision_row
from workers.commands.decisions import UnreadableRecords, decisions, newest

_EXAMPLES = FOLDER / "examples" / "decision" / "v1"
JUDGED = json.loads((_EXAMPLES / "good_judged.json").read_bytes())
LETTER = DeadLetter(
    topic="chat.events", partition=2, offset=7, reason="invalid", sentence="expected text", field="$.x"
)


def _record(value: Any = JUDGED, **fields: Any) -> Record:
    content = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return replace(Record("moderation.decisions", 0, 3, 1000, b"key", content, []), **fields)


def _row(record: Record) -> Row:
    row = decision_row(record)
    assert isinstance(row, Row)
    return row


def test_a_decision_is_a_row() -> None:
    row = _row(_record())
    assert row.cells == (
        *("12:00:00", "acme", "room/7", "ash", "community", "unsafe", "block"),
        *("0.97", "C1", "cache", "0"),
    )
    assert row.content == JUDGED


@pytest.mark.parametrize(
    ("name", "verdict", "why", "source"),
    [
        ("good_unjudged", "unjudged", "unparseable", "think"),
        ("good_not_applicable", "not_applicable", "surface", "-"),
    ],
)
def test_a_decision_without_verdict_says_why(name: str, verdict: str, why: str, source: str) -> None:
    cells = _row(_record((_EXAMPLES / f"{name}.json").read_bytes())).cells
    assert (cells[5], cells[7], cells[8], cells[9]) == (verdict, "-", why, source)


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b"{}", b"[" * 100_000, {**JUDGED, "score": 2}])
def test_what_is_no_decision_is_told_and_not_quoted(value: Any) -> None:
    assert decision_row(_record(value)) == "not a decision"


def test_a_time_that_no_calendar_has_is_a_dash() -> None:
    assert _row(_record({**JUDGED, "received_at": "0001-01-01T00:00:00+05:00"})).cells[0] == "-"
    row = dead_letter_row(_record(headers=dead_letter_headers(LETTER), timestamp_ms=2**62))
    assert isinstance(row, Row)
    assert row.cells[0] == "-"


def test_a_mark_of_redrive_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [_record(headers=headers) for headers in (dead_letter_headers(LETTER), mark_headers(LETTER))]
    monkeypatch.setattr(module, "read_records", lambda *_, **__: iter([records]))
    result = _run("--dead-letters")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


def test_an_unknown_field_of_a_later_version_is_kept() -> None:
    assert _row(_record({**JUDGED, "colour": "blue"})).content["colour"] == "blue"


def test_a_dead_letter_is_a_row_without_the_original() -> None:
    row = dead_letter_row(_record(b"secret text", headers=dead_letter_headers(LETTER), key=b"\xffkey"))
    assert isinstance(row, Row)
    assert row.cells == ("00:00:01", "invalid", "$.x", "chat.events/2/7", "expected text")
    assert row.content == {**msgspec.to_builtins(LETTER), "key": "\\xffkey", "value_bytes": 11}


def test_a_record_without_the_headers_is_no_dead_letter() -> None:
    assert dead_letter_row(_record(headers=[("other", b"x")])) == "not a dead letter"


EVIL = _row(_record({**JUDGED, "author": "a\x9bb\u202ec"}))


def test_json_is_one_ascii_line() -> None:
    out = io.StringIO()
    JsonRows(out).write([EVIL])
    assert out.getvalue().isascii()
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == EVIL.content


def test_plain_lines_cannot_steer_a_terminal() -> None:
    out = io.StringIO()
    PlainRows(out).write([EVIL])
    assert "a\\x9bb\\u202ec" in out.getvalue()
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_table_fits_the_terminal_and_cannot_steer_it(width: int) -> None:
    out = io.StringIO()
    rows = TableRows(dead_letters=False, console=Console(file=out, width=width, highlight=False))
    rows.write([])
    rows.write([EVIL])
    rows.write([_row(_record({**JUDGED, "author": "[bold]x"}))])
    head, first, second = out.getvalue().splitlines()
    assert "verdict" in head
    assert "a\\x9bb" in first
    assert "[bold]x" in second
    assert "0.97" in second
    assert head.index("action") == first.index("block") == second.index("block")
    assert all(len(line) <= width for line in (head, first, second))


def test_a_table_of_dead_letters_fits_the_terminal() -> None:
    row = dead_letter_row(_record(headers=dead_letter_headers(LETTER)))
    assert isinstance(row, Row)
    for width in (60, 80, 100, 160):
        out = io.StringIO()
        TableRows(dead_letters=True, console=Console(file=out, width=width, highlight=False)).write([row])
        assert "expected text" in out.getvalue()
        assert all(len(line) <= width for line in out.getvalue().splitlines())


def test_the_newest_are_the_last_by_time() -> None:
    records = [_record(timestamp_ms=time, partition=time % 2) for time in (3, 1, 4, 2)]
    assert [record.timestamp_ms for record in newest(records, 3)] == [2, 3, 4]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the reader was asked for; it gives one decision and one record that is none."""
    found: dict[str, Any] = {}

    def read(_options: Any, topic: str, **arguments: Any) -> Iterator[list[Record]]:
        found.update(arguments, topic=topic)
        yield [_record(), _record(b"?", offset=4)] if arguments["start"] != 1 else [_record()]

    monkeypatch.setattr(module, "read_records", read)
    return found


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(decisions, [*arguments])


def test_a_record_that_cannot_be_read_is_named_and_the_rest_is_shown(asked: dict[str, Any]) -> None:
    result = _run("--json")
    assert json.loads(result.stdout) == JUDGED
    assert result.stderr == "moderation.decisions partition 0 offset 4: not a decision\n"
    assert isinstance(result.exception, UnreadableRecords)
    assert (asked["topic"], asked["start"], asked["follow"]) == ("moderation.decisions", "beginning", False)


def test_following_begins_at_the_end_unless_asked(asked: dict[str, Any]) -> None:
    _run("--follow")
    assert (asked["start"], asked["follow"]) == ("end", True)
    _run("--follow", "--from-beginning")
    assert (asked["start"], asked["follow"]) == ("beginning", True)


def test_a_limit_reads_only_the_end(asked: dict[str, Any]) -> None:
    result = _run("--limit", "1")
    assert result.exit_code == 0
    assert asked["start"] == 1
    assert result.stdout.startswith("12:00:00  acme  room/7  ash")


@pytest.mark.parametrize("other", ["--follow", "--from-beginning"])
def test_a_limit_excludes_the_other_ways_to_begin(asked: dict[str, Any], other: str) -> None:
    assert _run("--limit", "3", other).exit_code == 2


def test_dead_letters_are_read_from_their_topic(asked: dict[str, Any]) -> None:
    _run("--dead-letters")
    assert asked["topic"] == "moderation.dead-letters"
