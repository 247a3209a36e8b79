import pytest

from guard.training.evaluation import Outcome
from guard.training.evaluation_settings import MODES
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.synthetic_figures import f1, report_of, score_set, share

SETS = evaluation_sets(12, 2)


def perfect() -> dict[str, dict[str, list[Outcome]]]:
    return {
        mode: {
            name: [
                Outcome(row.exchange.label, (row.exchange.code,) if row.exchange.code else ()) for row in rows
            ]
            for name, rows in SETS.items()
        }
        for mode in MODES
    }


def test_a_perfect_guard_reaches_every_bar() -> None:
    report = report_of(SETS, perfect(), 1)
    assert report["passed"]
    assert report["modes"]["think"]["sets"]["in_distribution"]["code_right"]["value"] == 1.0
    assert report["modes"]["fast"]["same_verdict_when_reworded"]["value"] == 1.0


def test_always_unsafe_and_always_safe_fail() -> None:
    for label in ("safe", "unsafe"):
        by_set = {name: [Outcome(label)] * len(rows) for name, rows in SETS.items()}
        outcomes: dict[str, dict[str, list[Outcome]]] = dict.fromkeys(MODES, by_set)
        report = report_of(SETS, outcomes, 1)
        assert not report["passed"]
        assert report["modes"]["think"]["pairs"]["pairs"]["value"] == 0.0
        assert report["modes"]["think"]["custom"]["themes"]["value"] == 0.5


def test_an_answer_that_does_not_parse_is_wrong() -> None:
    outcomes = perfect()
    outcomes["think"]["in_distribution"] = [Outcome(None, reason="no_verdict")] * len(SETS["in_distribution"])
    report = report_of(SETS, outcomes, 1)
    scores = report["modes"]["think"]["sets"]["in_distribution"]
    assert scores["accuracy"]["value"] == scores["parse"] == scores["f1"]["value"] == 0.0
    assert report["modes"]["think"]["unparseable"] == {"no_verdict": len(SETS["in_distribution"])}
    missed = {(bar["mode"], bar["figure"]) for bar in report["bars"] if not bar["met"]}
    assert missed == {("think", "parse"), ("think", "f1")}


def test_wrong_codes_are_told_apart_from_wrong_verdicts() -> None:
    rows = SETS["pairs/on"]
    scores = score_set(rows, [Outcome("unsafe", ("Q9",))] * len(rows), 1)
    assert scores["accuracy"]["value"] == 1.0
    assert scores["code_right"]["value"] == 0.0


def test_f1_and_share() -> None:
    assert f1([True, True, False], [True, False, False]) == pytest.approx(2 / 3)
    assert f1([False], [False]) == 0.0
    assert share([True, True, False, False]) == {"value": 0.5, "se": 0.25, "n": 4}


def test_an_interval_of_f1_is_around_it_and_narrows_with_rows() -> None:
    def width(times: int) -> float:
        found = score_set(
            [*SETS["pairs/on"], *SETS["pairs/off"]] * times,
            [Outcome("unsafe" if number % 3 else "safe") for number in range(24)] * times,
            1,
        )["f1"]
        assert found["low"] < found["value"] < found["high"]
        return float(found["high"] - found["low"])

    assert width(16) < width(1) / 2
    everything = score_set(
        [*SETS["pairs/on"], *SETS["pairs/off"]], [Outcome("unsafe")] * 12 + [Outcome("safe")] * 12, 1
    )
    assert everything["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
