from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guard.training.cli import train
from guard.training.comparison import compare_reports, report_in, table
from guard.training.measured_rows import MeasuredRow, ReportError, to_report
from guard.training.report import write_report
from guard.training.suite_report import suite_report
from tests.unit.guard.training.measured import row, rows_with


def report(rows: list[MeasuredRow]) -> dict[str, Any]:
    return {"measured": to_report(rows)}


BEFORE = rows_with(60, 40, 10, 90)
AFTER = rows_with(95, 5, 12, 88)


def test_a_side_that_changed_is_told_from_one_that_may_be_chance() -> None:
    misses, refusals = compare_reports(report(AFTER), report(BEFORE))
    assert (misses.suite, misses.mode, misses.side) == ("synthetic/both", "think", "misses")
    assert (misses.challenger, misses.champion) == (0.05, 0.4)
    assert misses.low < -0.35 < misses.high < 0
    assert misses.word == "better"
    assert refusals.side == "over_refusals"
    assert refusals.word == "no difference shown"
    (worse, _) = compare_reports(report(BEFORE), report(AFTER))
    assert worse.word == "worse"


def test_pairs_are_compared_where_there_are_twins() -> None:
    def pair(said: str) -> list[MeasuredRow]:
        on = [row(n, True, "unsafe", twin=f"r{n + 50}", group=f"g{n}") for n in range(50)]
        return on + [row(n + 50, False, said, twin=f"r{n}", group=f"g{n}") for n in range(50)]

    found = {one.side: one for one in compare_reports(report(pair("safe")), report(pair("unsafe")))}
    assert (found["pairs"].challenger, found["pairs"].champion, found["pairs"].word) == (0.0, 1.0, "better")


def test_only_modes_that_both_have_are_compared() -> None:
    assert compare_reports(report(rows_with(5, 5, 5, 5, mode="fast")), report(BEFORE)) == []


def test_other_rows_are_refused() -> None:
    with pytest.raises(ReportError, match=r"synthetic/both \(think\): .* measured on other rows"):
        compare_reports(report(AFTER), report(rows_with(5, 5, 5, 5)))


def test_the_table_has_a_line_for_each_side() -> None:
    text = table(compare_reports(report(AFTER), report(BEFORE)), "after", "before")
    first, _, misses, refusals = text.splitlines()
    assert first == "| Suite | Mode | Wrong | before | after | difference | |"
    assert misses.startswith("| synthetic/both | think | misses | 40.0 | 5.0 | -35.0 (")
    assert misses.endswith("| better |")
    assert " over-refusals | 10.0 | 12.0 | +2.0 (" in refusals


def test_the_command_reads_two_folders(tmp_path: Path) -> None:
    for name, rows in (("after", AFTER), ("before", BEFORE)):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, suite_report(rows, 100, 0))
    said = CliRunner().invoke(train, ["compare", str(tmp_path / "after"), str(tmp_path / "before")])
    assert said.exit_code == 0, said.output
    assert "| synthetic/both | think | misses | 40.0 | 5.0 |" in said.output


def test_a_folder_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"found no report\.json"):
        report_in(tmp_path)
