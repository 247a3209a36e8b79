from __future__ import annotations

from pathlib import Path

from tests.acceptance.faults.ledger import Ledger, Repeat


def repeat(number: int, row: str = "a-row") -> Repeat:
    return Repeat(row=row, number=number, seed="0", began="2026-01-05T09:00:00+00:00", lasted_s=1.5)


def test_repeats_are_kept_in_order_and_rows_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "made-when-needed")
    for one in (repeat(1), repeat(1, "another"), repeat(2)):
        ledger.append(one)
    assert ledger.read("a-row") == [repeat(1), repeat(2)]
    assert ledger.read("another") == [repeat(1, "another")]
    assert ledger.read("a-third") == []


def test_a_line_that_was_cut_off_is_as_if_it_had_not_been_begun(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(repeat(1))
    with ledger.path("a-row").open("ab") as file:
        file.write(b'{"row": "a-ro')
    assert ledger.read("a-row") == [repeat(1)]
    ledger.append(repeat(2))
    assert ledger.read("a-row") == [repeat(1), repeat(2)]


def test_a_forgotten_row_begins_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(repeat(1))
    ledger.forget("a-row")
    ledger.forget("never-seen")
    assert ledger.read("a-row") == []
