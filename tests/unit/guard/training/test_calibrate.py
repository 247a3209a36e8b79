"""From judged rows to a calibration: what is chosen, what is left raw, and what the report says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from guard.calibration import FittedOn, decode_calibration, open_scales
from guard.checkpoint import CALIBRATION, Checkpoint, open_checkpoint
from guard.scores import probability
from guard.training.calibrate import LEAST_ROWS_OF_ROLE, add_calibration, calibrate
from guard.training.calibration_measure import MOST_ECE, bars, measure
from guard.training.evaluation import Outcome
from guard.training.judged_rows import JudgedRow
from guard.training.reliability import PICTURE
from schemas.identifiers import Role
from tests.model_folders import write_bare_folder

DATA = FittedOn(name="made up", sha256="0" * 64, rows=1, near_duplicates=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint") / "bare")
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


def said(odds: float | None) -> Outcome:
    if odds is None:
        return Outcome(None, reason="no_verdict", completions=(9,))
    return Outcome("unsafe" if odds > 0 else "safe", (), probability(odds), completions=(17,))


def draw(count: int, seed: int, role: Role = "user", *, both: bool = True) -> list[JudgedRow]:
    """Rows with a hidden odds; each mode sees it with noise of its own, three times too sure.

    Without `both` the fast reading is worth nothing.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        odds = rng.gauss(0, 3)
        unsafe = rng.random() < probability(odds)
        fast = 3 * (odds + rng.gauss(0, 1)) if both else rng.gauss(0, 3)
        think = None if rng.random() < 0.01 else 3 * (odds + rng.gauss(0, 1))
        rows.append(JudgedRow(role, unsafe, said(fast), said(think)))
    return rows


def fitted(checkpoint: Checkpoint, rows: list[JudgedRow], budget: int = 512) -> object:
    return calibrate(checkpoint, "vllm 1", rows, DATA, think_budget_tokens=budget, seed=1)


def test_a_calibration_is_written_that_serving_can_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    report = {"engine": "vllm 1", "seed": 1, "bars": [], "passed": True}
    add_calibration(
        report,
        tmp_path,
        checkpoint,
        fit=draw(3000, 1),
        held_out=draw(2000, 2),
        data=DATA,
        think_budget_tokens=512,
    )
    assert (tmp_path / PICTURE).read_text().startswith("<?xml")
    (checkpoint.path / CALIBRATION).write_bytes((tmp_path / CALIBRATION).read_bytes())
    again = open_checkpoint(str(checkpoint.path), template="rsafe-compact-1", weights=False)
    scales = open_scales(again, think_budget_tokens=512)
    (checkpoint.path / CALIBRATION).unlink()
    assert scales.think_score == "both"
    found = report["calibration"]
    assert isinstance(found, dict)
    for mode in ("fast", "think"):
        everyone = found["modes"][mode]["groups"]["all"]
        assert everyone["calibrated"]["ece"] < 0.04 < everyone["raw"]["ece"]
        assert everyone["n"] + everyone["unscored"] == 2000
        for one in everyone["rates"]:
            assert one["found"] <= one["rate"] + 4 * one["se"] + 0.005
    assert report["passed"] is True
    bars_ = report["bars"]
    assert isinstance(bars_, list)
    assert [(bar["mode"], bar["figure"], bar["met"]) for bar in bars_] == [
        ("fast", "ece", True),
        ("think", "ece", True),
    ]


def test_the_fast_reading_joins_only_where_it_tells_more(checkpoint: Checkpoint) -> None:
    for both in (True, False):
        rows = draw(2000, 3, both=both)
        calibration, chosen = calibrate(checkpoint, "e", rows, DATA, think_budget_tokens=512, seed=1)
        assert calibration is not None
        assert calibration.modes["think"].score == ("both" if both else "verdict")
        folds = chosen["think"]["brier_in_folds"]
        least = {kind: min(v for n, v in folds.items() if n.startswith(kind)) for kind in ("both", "verdict")}
        assert (least["both"] < least["verdict"]) is both


def test_a_role_has_a_curve_of_its_own_where_it_has_rows_enough(checkpoint: Checkpoint) -> None:
    many = draw(3 * LEAST_ROWS_OF_ROLE, 4)
    few = draw(LEAST_ROWS_OF_ROLE // 2, 5, "assistant")
    calibration, _ = calibrate(checkpoint, "e", many + few, DATA, think_budget_tokens=512, seed=1)
    assert calibration is not None
    assert set(calibration.modes["fast"].curves) == {"all", "user"}
    measured = measure(calibration, draw(500, 6) + draw(500, 7, "assistant"))
    groups = measured["fast"]["groups"]
    assert {name: group["curves"] for name, group in groups.items()} == {
        "all": ["all", "user"],
        "user": ["user"],
        "assistant": ["all"],
    }
    assert {name: group["n"] for name, group in groups.items()} == {
        "all": 1000,
        "user": 500,
        "assistant": 500,
    }


def test_a_guard_whose_scores_say_nothing_stays_raw_and_misses_the_bar(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    rows = [JudgedRow("user", number % 2 == 0, said(1.0), said(None)) for number in range(1000)]
    report = {"engine": "e", "seed": 1, "bars": [], "passed": True}
    add_calibration(report, tmp_path, checkpoint, fit=rows, held_out=rows, data=DATA, think_budget_tokens=512)
    assert not list(tmp_path.iterdir())
    assert report["passed"] is False
    assert report["calibration"]["modes"] == {}  # type: ignore[index]
    assert report["calibration"]["chosen"] == {  # type: ignore[index]
        "fast": {"none": "the scores do not rise with the truth"},
        "think": {"none": "0 unsafe and 0 safe rows with a score; expected 200 of each"},
    }


def test_an_error_over_the_bar_is_missed(checkpoint: Checkpoint) -> None:
    calibration, _ = calibrate(checkpoint, "e", draw(2000, 8), DATA, think_budget_tokens=512, seed=1)
    assert calibration is not None
    turned = [JudgedRow(row.role, not row.unsafe, row.fast, row.think) for row in draw(500, 9)]
    for bar in bars(measure(calibration, turned)):
        assert bar["value"] > MOST_ECE == bar["most"]
        assert not bar["met"]


def test_rationales_that_were_closed_by_force_are_counted(checkpoint: Checkpoint) -> None:
    rows = draw(1000, 10)
    cut = Outcome("safe", (), 0.1, completions=(544, 7))
    rows[0] = JudgedRow("user", False, rows[0].fast, cut)
    calibration, _ = calibrate(checkpoint, "e", rows, DATA, think_budget_tokens=512, seed=1)
    assert calibration is not None
    think, fast = calibration.modes["think"], calibration.modes["fast"]
    assert (think.closed_by_force, think.longest_completion_tokens) == (1, 17)
    assert (fast.closed_by_force, fast.holds(1)) == (0, True)


def test_the_same_rows_give_the_same_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report = {"engine": "e", "seed": 1, "bars": []}
        add_calibration(
            report,
            tmp_path / name,
            checkpoint,
            fit=draw(1000, 11),
            held_out=draw(500, 12),
            data=DATA,
            think_budget_tokens=512,
        )
        written.append([(tmp_path / name / file).read_bytes() for file in (CALIBRATION, PICTURE)])
    assert written[0] == written[1]
    decode_calibration(written[0][0], "it")
