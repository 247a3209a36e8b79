from __future__ import annotations

import pytest
from msgspec.structs import replace

from guard.calibration import FORMAT, Calibration, Curve, FalsePositives, FittedOn, ModeCalibration
from guard.prompt import Turn
from guard.scores import mean_of_both
from guard.training.data.rows import LabelledRow
from guard.training.evaluation import Outcome
from guard.training.measured_rows import MeasuredRow, Reply, ReportError, rows_of, to_report
from guard.training.suite_report import measure_suites, measured_row, suite_report
from schemas.policy import Category, Policy
from tests.unit.guard.training.measured import row, rows_with

POLICY = Policy(id="p", version="1", categories=(Category(code="C1", title="t", definition="d"),))
ROW = LabelledRow(
    id="a-1",
    source="a",
    split="dev",
    group="g",
    policy=POLICY,
    turns=(Turn(role="user", text="secret words"),),
    label="unsafe",
    codes=("C1",),
    twin="a-2",
)


def calibration(think: str) -> Calibration:
    def mode(score: str, top: float) -> ModeCalibration:
        curve = Curve(
            safe=1,
            unsafe=1,
            raw=(0.0, 1.0),
            calibrated=(0.0, top),
            false_positives=FalsePositives(rates=(1.0,), scores=(0.0,)),
        )
        return ModeCalibration(
            score="both" if score == "both" else "verdict",
            method="platt",
            think_budget_tokens=9,
            longest_completion_tokens=9,
            curves={"all": curve},
        )

    return Calibration(
        format=FORMAT,
        weights_digest="0" * 64,
        template_version="t",
        parser_version="p",
        engine="e",
        data=FittedOn(name="n", sha256="0" * 64, rows=1, near_duplicates=0),
        modes={"fast": mode("verdict", 0.5), "think": mode(think, 0.8)},
    )


def test_a_row_keeps_truth_and_replies_and_no_text() -> None:
    said = {
        "think": Outcome("unsafe", ("C1",), 0.75, completions=(9, 3)),
        "fast": Outcome(None, reason="no_verdict"),
    }
    found = measured_row(ROW, ("s",), said, None, Reply(label="safe", score=0.2))  # type: ignore[arg-type]
    assert found.replies["think"] == Reply(label="unsafe", score=0.75, codes=("C1",), tokens=12)
    assert found.replies["fast"] == Reply(label=None, reason="no_verdict")
    assert list(found.replies) == ["think", "fast", "floor"]
    assert (found.unsafe, found.group, found.twin, found.codes) == (True, "g", "a-2", ("C1",))
    assert "secret" not in str(to_report([found]))


@pytest.mark.parametrize("think", ["verdict", "both"])
def test_scores_are_calibrated_as_serving_calibrates_them(think: str) -> None:
    said = {"fast": Outcome("safe", (), 0.4), "think": Outcome("unsafe", (), 0.9)}
    found = measured_row(ROW, ("s",), said, calibration(think))  # type: ignore[arg-type]
    raw = 0.9 if think == "verdict" else mean_of_both(0.4, 0.9)
    assert raw is not None
    assert found.replies["fast"].calibrated == pytest.approx(0.2)
    assert found.replies["think"].calibrated == pytest.approx(0.8 * raw, abs=1e-6)
    assert found.replies["think"].score == 0.9


def test_without_a_score_or_a_verdict_nothing_is_calibrated() -> None:
    said = {"fast": Outcome("safe"), "think": Outcome(None, reason="cut_off")}
    found = measured_row(ROW, ("s",), said, calibration("both"))  # type: ignore[arg-type]
    assert found.replies["fast"].calibrated is None
    assert found.replies["think"].calibrated is None


def test_the_floor_is_measured_where_it_spoke_alone() -> None:
    rows = [*rows_with(3, 1, 1, 3), *rows_with(2, 0, 0, 2, suite="real/a", first=100)]
    rows = [
        replace(one, replies={**one.replies, "floor": Reply(label="safe", score=0.1)})
        if "real/a" in one.suites
        else one
        for one in rows
    ]
    suites = suite_report(rows, 100, 1)["suites"]
    assert set(suites["think"]) == {"synthetic/both", "real/a", "real/macro"}
    assert set(suites["floor"]) == {"real/a", "real/macro"}
    assert suites["floor"]["real/a"]["figures"]["recall"]["value"] == 0.0


def test_the_mean_over_sources_leaves_out_the_pooled_rows() -> None:
    rows = [
        replace(one, suites=(*one.suites, "real/all"))
        for one in (
            *rows_with(4, 0, 0, 4, suite="real/a"),
            *rows_with(0, 40, 0, 40, suite="real/b", first=50),
        )
    ]
    found = measure_suites(rows, "think", 100, 1)
    assert found["real/macro"].values["recall"] == 0.5
    assert found["real/all"].values["recall"] == pytest.approx(4 / 44)


def test_rows_come_back_from_a_report_as_they_went_in() -> None:
    rows = [row(1, True, "unsafe", twin="r2", group="g"), row(2, False, None)]
    assert rows_of({"measured": to_report(rows)}) == rows


@pytest.mark.parametrize(
    "wrong", [{}, {"measured": 1}, {"measured": [{"id": "a"}]}, {"measured": [{"id": 1, "unsafe": "no"}]}]
)
def test_a_report_with_other_rows_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ReportError, match=r"^champion: "):
        rows_of(wrong, "champion")


def test_the_same_rows_give_the_same_figures() -> None:
    rows: list[MeasuredRow] = rows_with(30, 10, 5, 55)
    assert suite_report(rows, 100, 1) == suite_report(rows, 100, 1)
    assert suite_report(rows, 100, 1)["suites"] != suite_report(rows, 100, 2)["suites"]
