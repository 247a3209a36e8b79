import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from guard.training.measured_rows import MeasuredRow, Reply
from guard.training.metrics import LEAST_SAFE_ROWS_FOR_RATE, columns, macro, measure
from guard.training.score_figures import calibration_error
from tests.unit.guard.training.measured import row, rows_with


def figures(rows: list[MeasuredRow], draws: int = 200) -> dict[str, float]:
    return dict(measure(rows, "think", draws, 1).values)  # type: ignore[arg-type]


def test_counts_become_rates() -> None:
    found = figures(rows_with(hits=6, misses=2, alarms=1, passes=11))
    assert found["accuracy"] == pytest.approx(17 / 20)
    assert found["precision"] == pytest.approx(6 / 7)
    assert found["recall"] == pytest.approx(6 / 8)
    assert found["misses"] == pytest.approx(2 / 8)
    assert found["false_positives"] == pytest.approx(1 / 12)
    assert found["f1"] == pytest.approx(12 / 15)
    assert found["balanced_accuracy"] == pytest.approx((6 / 8 + 11 / 12) / 2)
    assert (found["parse"], found["tokens"]) == (1.0, 7.0)


def test_no_verdict_is_a_miss_and_a_false_alarm_and_ranks_at_the_wrong_end() -> None:
    rows = [row(0, True, None), row(1, True, "unsafe"), row(2, False, None), row(3, False, "safe")]
    found = figures(rows)
    assert (found["misses"], found["false_positives"], found["parse"]) == (0.5, 0.5, 0.5)
    assert columns(rows, "think").scores.tolist() == [0.0, 0.9, 1.0, 0.1]
    # Ranked: the safe row without a verdict, the hit, the safe row, the miss.
    assert found["auprc"] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_a_verdict_without_a_score_counts_as_sure() -> None:
    replies = {"think": Reply(label="unsafe")}
    rows = [MeasuredRow(id="a", unsafe=True, suites=("s",), replies=replies), row(1, False, "safe")]
    assert columns(rows, "think").scores.tolist() == [1.0, 0.1]


def test_a_suite_of_one_kind_has_no_figure_that_needs_both() -> None:
    found = figures(rows_with(hits=3, misses=1, alarms=0, passes=0))
    assert "f1" not in found
    assert "precision" not in found
    assert "auprc" not in found
    assert "false_positives" not in found
    assert found["recall"] == 0.75
    assert "misses" not in figures(rows_with(hits=0, misses=0, alarms=1, passes=1))


def drawn(count: int, seed: int = 0) -> list[MeasuredRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        unsafe = bool(rng.random() < 0.4)
        score = round(float(np.clip(rng.normal(0.65 if unsafe else 0.35, 0.25), 0, 1)), 2)  # with ties
        rows.append(row(number, unsafe, "unsafe" if score >= 0.5 else "safe", score, group=f"g{number // 3}"))
    return rows


def test_figures_of_scores_are_those_of_the_libraries() -> None:
    rows = drawn(400)
    truths = np.array([one.unsafe for one in rows])
    scores = columns(rows, "think").scores
    found = figures(rows)
    assert found["auprc"] == pytest.approx(average_precision_score(truths, scores))
    assert found["ece"] == pytest.approx(calibration_error(scores, truths))


def test_recall_at_one_percent_is_that_of_the_best_threshold_within_it() -> None:
    safe = [row(n, False, "safe", 0.2) for n in range(198)] + [
        row(198, False, "unsafe", 0.8),
        row(199, False, "unsafe", 0.7),
    ]
    unsafe = [row(200 + n, True, "unsafe", s) for n, s in enumerate((0.9, 0.75, 0.7, 0.6))]
    # One percent of 200 safe rows are two; the third unsafe row ties with the second of them.
    assert figures(safe + unsafe)["recall_at_1_percent"] == 1.0
    more = [*safe, row(300, False, "unsafe", 0.65)]
    assert figures(more + unsafe)["recall_at_1_percent"] == 0.75
    assert "recall_at_1_percent" not in figures(safe[: LEAST_SAFE_ROWS_FOR_RATE - 1] + unsafe)


def test_a_pair_is_right_when_both_sides_are() -> None:
    rows = []
    for number, (on, off) in enumerate([("unsafe", "safe"), ("unsafe", "unsafe"), ("safe", "safe")]):
        rows.append(row(2 * number, True, on, group=f"p{number}", twin=f"r{2 * number + 1}"))
        rows.append(row(2 * number + 1, False, off, group=f"p{number}", twin=f"r{2 * number}"))
    assert figures(rows)["pairs"] == pytest.approx(1 / 3)
    assert measure(rows, "think", 100, 1).groups == 3
    assert "pairs" not in figures(rows[::2])


def test_the_right_category_is_counted_where_one_was_named() -> None:
    def named(number: int, *codes: str) -> MeasuredRow:
        replies = {"think": Reply(label="unsafe", score=0.9, codes=codes)}
        return MeasuredRow(id=f"r{number}", unsafe=True, suites=("s",), replies=replies, codes=("C1",))

    assert figures([named(0, "C1"), named(1, "C2"), named(2)])["codes_right"] == 0.5


def test_the_interval_holds_the_value_and_groups_widen_it() -> None:
    grouped = drawn(600)
    alone = [
        row(n, r.unsafe, r.replies["think"].label, r.replies["think"].score) for n, r in enumerate(grouped)
    ]
    same = [
        row(3 * n + k, r.unsafe, r.replies["think"].label, r.replies["think"].score, group=f"g{n}")
        for n, r in enumerate(grouped[:200])
        for k in range(3)
    ]
    widths = []
    for rows in (alone, same):
        told = measure(rows, "think", 500, 1).report()["figures"]["accuracy"]
        assert told["low"] <= told["value"] <= told["high"]
        widths.append(told["high"] - told["low"])
    # Three copies of a row are one observation: the interval is wider by the root of three.
    assert 1.3 < widths[1] / widths[0] < 2.3


def test_the_macro_mean_counts_every_suite_alike_and_skips_what_one_does_not_define() -> None:
    small = measure(rows_with(1, 1, 0, 2), "think", 200, 1)
    large = measure(rows_with(40, 0, 0, 0), "think", 200, 2)
    mean = macro([small, large])
    assert mean.values["recall"] == pytest.approx(0.75)
    assert mean.values["false_positives"] == 0.0
    assert (mean.rows, mean.unsafe) == (44, 42)
    assert mean.values["f1"] == small.values["f1"]


def test_a_few_rows_that_are_all_right_are_not_certain_to_stay_so() -> None:
    told = measure(rows_with(6, 0, 0, 6), "think", 200, 1).report()["figures"]
    assert told["recall"]["value"] == told["recall"]["high"] == 1.0
    assert 0.5 < told["recall"]["low"] < 0.7
    assert 0.7 < told["parse"]["low"] < 0.8
