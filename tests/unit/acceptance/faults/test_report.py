from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.faults.ledger import Ledger, Repeat
from tests.acceptance.faults.report import BEGIN, END, commits, summary, table, write_into


def repeat(number: int, **more: object) -> Repeat:
    values = {"row": "a-row", "number": number, "seed": "0", "began": "", "lasted_s": 1.0} | more
    return Repeat(**values)  # type: ignore[arg-type]


REPEATS = [
    repeat(1, events=100, decisions=110, duplicates=10, most_duplicates=100, resumed_s=2.0, pause_s=3.0),
    repeat(2, events=1_000, decisions=1_000, most_duplicates=100, unjudged=7, resumed_s=8.0, pause_s=9.5),
    repeat(3, most_duplicates=100, violations=("stuck: it",), violation_count=1),
    repeat(0, events=5, decisions=5, most_duplicates=100),
]


def test_the_closing_check_counts_its_events_and_is_no_repeat() -> None:
    found = summary(REPEATS)
    assert (found.done, found.events, found.violations) == (3, 1_105, 1)
    assert (found.duplicates, found.most_duplicates, found.bound) == (10, 10, 100)
    assert (found.resumed_p50_s, found.resumed_max_s, found.pause_max_s) == (5.0, 8.0, 9.5)


def test_each_row_has_a_line_and_lines_have_the_columns_of_the_head(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for one in REPEATS:
        ledger.append(one)
    made = table([("a-row", "a fault", 50), ("absent", "another one", 3)], ledger)
    head, _, first, second = made.splitlines()
    expected = "| a fault | 3 of 50 | 1,105 | 1,115 | 0 | 7 | 1 | 10 | 10 (100) | 5.0 s (8.0 s) | 9.5 s |"
    assert first == expected
    assert second.startswith("| another one | 0 of 3 |")
    assert {line.count("|") for line in (head, first, second)} == {12}


def test_the_commits_are_told_with_the_repeats_that_were_made_with_them(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert commits(["a-row"], ledger) == ""
    for one in (
        repeat(1, commit="1a2b3c4"),
        repeat(2, commit="1a2b3c4"),
        repeat(3),
        repeat(0, commit="5d6e7f8+"),
        repeat(1, row="another", commit="5d6e7f8+"),
    ):
        ledger.append(one)
    told = commits(["a-row", "another"], ledger)
    assert told.endswith("each: `1a2b3c4` (2), not noted (1), `5d6e7f8+` (1).\n")


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="expected the lines"):
        write_into(page, "new")
