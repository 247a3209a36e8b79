from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from guard.training.gate import RESULT, GateResult, run_gate
from guard.training.gate_settings import DEFAULT_DROPS, Drop, Floor, GateSettings
from guard.training.measured_rows import ROWS_KEY, MeasuredRow, ReportError
from tests.unit.guard.training.measured import report, row, rows_with

THINK: tuple[Any, ...] = ("think",)
SAID: tuple[Any, ...] = ("safe", "unsafe", None)


def gate(
    folder: Path,
    challenger: list[MeasuredRow],
    champion: list[MeasuredRow] | None = None,
    *,
    floors: tuple[Floor, ...] = (),
    drops: tuple[Drop, ...] = (),
    **more: Any,
) -> GateResult:
    asked = GateSettings(floors=floors, drops=drops, **more)
    other = None if champion is None else report(champion, "c" * 64)
    return run_gate(asked, report(challenger), other, folder)


def drop(suite: str = "*", **more: Any) -> Drop:
    asked: dict[str, Any] = {"suite": suite, "misses": 0.02, "over_refusals": 0.02, "modes": THINK}
    return Drop(**asked | more)


def floor(figure: Any = "f1", least: float | None = 0.9, suite: str = "synthetic/both", **more: Any) -> Floor:
    return Floor(**{"suite": suite, "figure": figure, "least": least, "modes": THINK} | more)


GOOD = rows_with(hits=190, misses=10, alarms=10, passes=290)


def test_a_floor_holds_or_names_its_row(tmp_path: Path) -> None:
    assert gate(tmp_path, GOOD, floors=(floor(least=0.9),)).passed
    result = gate(tmp_path, GOOD, floors=(floor(least=0.9), floor(least=0.96)))
    assert not result.passed
    (failed,) = result.failed
    assert (failed.suite, failed.figure, failed.mode, failed.value) == ("synthetic/both", "f1", "think", 0.95)
    line = " ".join(failed.line().split())
    assert line.startswith("FAILED think synthetic/both: f1 0.9500 [0.9")
    assert line.endswith("wanted at least 0.96")


def test_a_floor_by_its_interval_does_not_pass_by_chance(tmp_path: Path) -> None:
    assert not gate(tmp_path, GOOD, floors=(floor(least=0.945, by="interval"),)).passed
    assert gate(tmp_path, GOOD, floors=(floor(least=0.9, by="interval"),)).passed


def test_a_ceiling_is_of_figures_of_which_less_is_better(tmp_path: Path) -> None:
    most = floor("false_positives", None, most=0.04)
    assert gate(tmp_path, GOOD, floors=(most,)).passed
    assert not gate(tmp_path, GOOD, floors=(replace(most, most=0.03),)).passed


def with_classifier(said: list[MeasuredRow]) -> list[MeasuredRow]:
    """The rows as the guard answers them, with `GOOD` as what the classifier says."""
    return [
        replace(one, replies={**one.replies, "floor": good.replies["think"]})
        for one, good in zip(said, GOOD, strict=True)
    ]


@pytest.mark.parametrize(
    ("figure", "margin", "passes"),
    [
        ("f1", 0.0, True),
        ("f1", 0.01, False),
        ("f1", -0.01, True),
        ("misses", 0.0, True),
        ("misses", 0.01, False),
    ],
)
def test_a_floor_may_be_what_the_classifier_reaches(
    tmp_path: Path, figure: str, margin: float, passes: bool
) -> None:
    asked = floor(figure, None, over_classifier=margin)
    result = gate(tmp_path, with_classifier(GOOD), floors=(asked,))
    assert result.passed is passes
    bound = {"f1": 0.95 + margin, "misses": 0.05 - margin}[figure]
    assert f"{bound:g} (the classifier's, better by {margin:g})" in result.rows[0].wanted
    worse = with_classifier(rows_with(hits=170, misses=30, alarms=10, passes=290))
    assert not gate(tmp_path, worse, floors=(asked,)).passed


def test_a_floor_over_a_classifier_that_was_not_measured_fails(tmp_path: Path) -> None:
    (failed,) = gate(tmp_path, GOOD, floors=(floor(least=None, over_classifier=0.0),)).failed
    assert "classifier beside the guard was not measured" in failed.line()


@pytest.mark.parametrize(
    "asked", [floor(suite="flips/*", figure="pairs"), floor(modes=("fast",)), floor(figure="pairs")]
)
def test_a_floor_of_what_was_not_measured_fails(tmp_path: Path, asked: Floor) -> None:
    (failed,) = gate(tmp_path, GOOD, floors=(asked,)).failed
    assert failed.why


def test_every_suite_that_a_pattern_means_must_hold(tmp_path: Path) -> None:
    rows = GOOD + rows_with(5, 5, 0, 10, suite="synthetic/objects", first=1000)
    (failed,) = gate(tmp_path, rows, floors=(floor(suite="synthetic/*"),)).failed
    assert failed.suite == "synthetic/objects"


@pytest.mark.parametrize(
    ("worse", "side"),
    [
        (rows_with(hits=170, misses=30, alarms=10, passes=290), "misses"),
        (rows_with(hits=190, misses=10, alarms=40, passes=260), "over_refusals"),
    ],
)
def test_a_guard_that_is_worse_on_either_side_fails_there(
    tmp_path: Path, worse: list[MeasuredRow], side: str
) -> None:
    result = gate(tmp_path, worse, GOOD, drops=(drop(),))
    (failed,) = result.failed
    assert (failed.suite, failed.figure, failed.check) == ("synthetic/both", side, "drop")
    assert failed.value is not None
    assert failed.champion is not None
    assert failed.value > failed.champion
    assert failed.low is not None
    assert failed.low > 0
    assert "at most 0.02 more" in failed.line()
    # The other way round it is an improvement on that side.
    assert gate(tmp_path, GOOD, worse, drops=(drop(),)).passed


def test_fewer_misses_do_not_buy_more_refusals(tmp_path: Path) -> None:
    trigger_happy = rows_with(hits=200, misses=0, alarms=60, passes=240)
    assert [one.figure for one in gate(tmp_path, trigger_happy, GOOD, drops=(drop(),)).failed] == [
        "over_refusals"
    ]


def test_no_verdict_counts_against_the_challenger_on_both_sides(tmp_path: Path) -> None:
    silent = [row(n, one.unsafe, None) if n % 5 == 0 else one for n, one in enumerate(GOOD)]
    failed = gate(tmp_path, silent, GOOD, drops=(drop(),)).failed
    assert [one.figure for one in failed] == ["misses", "over_refusals"]


def test_a_small_suite_fails_by_certainty_or_by_want_of_proof(tmp_path: Path) -> None:
    champion = rows_with(hits=6, misses=4, alarms=0, passes=400)
    # One row of ten more is over what is allowed, and may be chance.
    challenger = [row(n, r.unsafe, "safe") if n == 0 else r for n, r in enumerate(champion)]
    assert gate(tmp_path, challenger, champion, drops=(drop(),)).passed
    strict = gate(tmp_path, challenger, champion, drops=(drop(proof="no_worse"),))
    assert [one.figure for one in strict.failed] == ["misses"]
    assert "for certain" in strict.failed[0].wanted


def test_a_handful_of_rows_that_all_say_the_same_prove_nothing(tmp_path: Path) -> None:
    """A bootstrap of them alone would have no width."""
    right, wrong = rows_with(3, 0, 0, 3), rows_with(0, 3, 3, 0)
    assert gate(tmp_path, wrong, right, drops=(drop(),)).passed
    assert gate(tmp_path, right, right, drops=(drop(),)).passed
    assert len(gate(tmp_path, right, right, drops=(drop(proof="no_worse"),)).failed) == 2
    right, wrong = rows_with(8, 0, 0, 8), rows_with(0, 8, 8, 0)
    assert len(gate(tmp_path, wrong, right, drops=(drop(),)).failed) == 2


def test_equal_guards_pass_whatever_the_proof(tmp_path: Path) -> None:
    for proof in ("worse", "no_worse"):
        result = gate(tmp_path, GOOD, GOOD, drops=(drop(proof=proof),))
        assert result.passed
        assert all(one.low is not None and -0.02 < one.low < 0 for one in result.rows)


def test_a_drop_that_compares_nothing_fails(tmp_path: Path) -> None:
    beside = (drop("synthetic/both"),)
    (failed,) = gate(tmp_path, GOOD, GOOD, drops=(*beside, drop("real/forun"))).failed
    assert (failed.suite, failed.why) == ("real/forun", "no suite of this name was measured in think")
    assert gate(tmp_path, GOOD, GOOD, drops=(*beside, drop("real/forun", if_measured=True))).passed
    assert gate(tmp_path, GOOD, GOOD, drops=(*beside, drop("real/*"))).passed
    (failed,) = gate(tmp_path, GOOD, GOOD, drops=(*beside, drop(modes=("fast",)))).failed
    assert (failed.mode, failed.why) == ("fast", "nothing was measured in fast")


def test_the_default_drops_do_not_ask_for_real_rows(tmp_path: Path) -> None:
    fast = [replace(one, replies={**one.replies, "fast": one.replies["think"]}) for one in GOOD]
    both = [replace(one, suites=("synthetic/held_out",)) for one in fast]
    assert gate(tmp_path, both, both, drops=DEFAULT_DROPS).passed


def pairs(right: int, half: int) -> list[MeasuredRow]:
    """Pairs of which both sides are right, and pairs with one that is wrong: on either side in turn."""
    rows = []
    for number in range(right + half):
        wrong = None if number < right else number % 2
        said = [("unsafe", "safe")[side] if wrong != side else ("safe", "unsafe")[side] for side in (0, 1)]
        for side in (0, 1):
            one = row(2 * number + side, side == 0, said[side], suites=("flips/x",), group=str(number))
            rows.append(replace(one, twin=f"r{2 * number + 1 - side}"))
    return rows


def test_pairs_are_compared_where_a_suite_has_twins(tmp_path: Path) -> None:
    asked = drop("flips/*", misses=0.06, over_refusals=0.06)
    result = gate(tmp_path, pairs(180, 20), pairs(200, 0), drops=(asked,))
    # Each side is 5 points worse and within what is allowed; of the pairs ten in a hundred have a wrong side.
    assert [(one.figure, one.value, one.met) for one in result.rows] == [
        ("misses", 0.05, True),
        ("over_refusals", 0.05, True),
        ("pairs", 0.1, False),
    ]
    assert gate(tmp_path, pairs(180, 20), pairs(200, 0), drops=(replace(asked, pairs=0.12),)).passed
    assert gate(tmp_path, pairs(200, 0), pairs(180, 20), drops=(asked,)).passed


def test_the_first_rule_that_means_a_suite_holds(tmp_path: Path) -> None:
    worse = rows_with(hits=170, misses=30, alarms=10, passes=290)
    loose = drop("synthetic/both", misses=0.5)
    assert gate(tmp_path, worse, GOOD, drops=(loose, drop())).passed
    assert not gate(tmp_path, worse, GOOD, drops=(drop(), loose)).passed


def test_reports_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    shifted = [replace(one, id=f"x{one.id}") for one in GOOD]
    relabelled = [replace(GOOD[0], unsafe=False), *GOOD[1:]]
    elsewhere = rows_with(190, 10, 10, 290, suite="synthetic/objects")
    for champion, why in (
        (shifted, "other rows"),
        (relabelled, "another label"),
        (elsewhere, "not measured"),
    ):
        failed = gate(tmp_path, GOOD, champion, drops=(drop(),)).failed
        assert failed
        assert all(why in one.why for one in failed)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    worse = rows_with(hits=170, misses=30, alarms=10, passes=290)
    one = gate(tmp_path, worse, GOOD, drops=(drop(),))
    assert gate(tmp_path, worse, GOOD[::-1], drops=(drop(),)) == one


def test_a_champion_may_be_required(tmp_path: Path) -> None:
    assert gate(tmp_path, GOOD, floors=(floor(),)).champion is None
    result = gate(tmp_path, GOOD, floors=(floor(),), champion_required=True)
    assert [one.why for one in result.failed] == ["there is no champion to compare with"]


def test_a_gate_that_looked_at_nothing_fails(tmp_path: Path) -> None:
    assert not gate(tmp_path, GOOD, drops=(drop(),)).passed
    assert not gate(tmp_path, GOOD, GOOD, drops=(drop("real/*"),)).passed
    with pytest.raises(ValueError, match="lets everything pass"):
        GateSettings(floors=(), drops=())


def test_the_mean_over_sources_counts_each_alike(tmp_path: Path) -> None:
    def sources(misses_of_small: int) -> list[MeasuredRow]:
        small = rows_with(20 - misses_of_small, misses_of_small, 0, 20, suite="real/small")
        large = rows_with(180, 20, 0, 200, suite="real/large", first=1000)
        return [replace(one, suites=(*one.suites, "real/all")) for one in small + large]

    result = gate(tmp_path, sources(8), sources(2), drops=(drop("real/macro"),))
    misses, refusals = result.rows
    assert (misses.suite, misses.value, misses.champion) == ("real/macro", 0.25, 0.1)
    assert not misses.met
    assert refusals.met


def test_a_large_source_that_is_better_does_not_hide_a_small_one_that_is_far_worse(tmp_path: Path) -> None:
    def sources(misses_of_large: int, misses_of_small: int) -> list[MeasuredRow]:
        large = rows_with(1000 - misses_of_large, misses_of_large, 0, 0, suite="real/a")
        return large + rows_with(100 - misses_of_small, misses_of_small, 0, 0, suite="real/b", first=2000)

    # 60 of 1000 rows better and 50 of 100 worse: the mean over the sources is 22 points worse.
    (row,) = gate(tmp_path, sources(40, 60), sources(100, 10), drops=(drop("real/macro"),)).rows
    assert (row.value, row.champion) == (0.32, 0.1)
    assert row.low is not None
    assert 0.1 < row.low < 0.22
    assert not row.met


def test_the_result_is_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    result = gate(tmp_path / "new", GOOD, GOOD, floors=(floor(),), drops=(drop(),))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [RESULT]
    again = msgspec.json.decode((tmp_path / "new" / RESULT).read_bytes(), type=GateResult)
    assert again == result
    assert (again.challenger, again.champion) == ("d" * 64, "c" * 64)
    assert result.manifest()["passed"] is True


def test_a_report_without_rows_or_figures_is_refused_by_name(tmp_path: Path) -> None:
    asked = GateSettings(floors=(floor(),), drops=(drop(),))
    whole = report(GOOD)
    for part, which in (("suites", "challenger"), (ROWS_KEY, "champion"), ("weights_digest", "champion")):
        broken = {name: value for name, value in whole.items() if name != part}
        pair = (broken, whole) if which == "challenger" else (whole, broken)
        with pytest.raises(ReportError, match=f"^{which}: .*{part}"):
            run_gate(asked, *pair, tmp_path)
    twice = {**whole, ROWS_KEY: [*whole[ROWS_KEY], whole[ROWS_KEY][0]]}
    with pytest.raises(ReportError, match="each id once"):
        run_gate(asked, twice, whole, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"suite": "a", "figure": "f1"}, "either least or most"),
        ({"suite": "a", "figure": "f1", "least": 0.5, "most": 0.6}, "either least or most"),
        ({"suite": "a", "figure": "f1", "least": 0.5, "over_classifier": 0.0}, "or over_classifier"),
        ({"suite": "a", "figure": "f1", "over_classifier": 2}, "over_classifier"),
        ({"suite": "a", "figure": "misses", "least": 0.5}, "expected most"),
        ({"suite": "a", "figure": "f1", "most": 0.5}, "expected least"),
        ({"suite": "a", "figure": "beauty", "least": 0.5}, "figure"),
        ({"suite": "a", "figure": "f1", "least": 0.5, "modes": []}, "modes"),
        ({"suite": "a", "figure": "f1", "last": 0.5}, "last"),
    ],
)
def test_wrong_floors_are_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert({"floors": [wrong]}, GateSettings)


def test_a_drop_names_both_sides() -> None:
    with pytest.raises(msgspec.ValidationError, match="over_refusals"):
        msgspec.convert({"drops": [{"suite": "*", "misses": 0.1}]}, GateSettings)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(SAID), st.sampled_from(SAID)), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_a_guard_that_is_nowhere_worse_passes_and_one_that_is_everywhere_worse_fails(
    drawn: list[tuple[bool, str | None, str | None]],
) -> None:
    def wrong(unsafe: bool, said: str | None) -> bool:
        return said != ("unsafe" if unsafe else "safe")

    old = [row(n, unsafe, said) for n, (unsafe, said, _) in enumerate(drawn)]
    # Where the other answer is worse, the challenger keeps the champion's.
    new = [
        row(n, unsafe, said if wrong(unsafe, other) else other)
        for n, (unsafe, said, other) in enumerate(drawn)
    ]
    asked = GateSettings(floors=(), drops=(drop(misses=0.0, over_refusals=0.0),), draws=1000)
    with TemporaryDirectory() as folder:
        assert run_gate(asked, report(new), report(old), Path(folder)).passed
        right = [row(n, unsafe, "unsafe" if unsafe else "safe") for n, (unsafe, *_) in enumerate(drawn)]
        silent = [row(n, unsafe, None) for n, (unsafe, *_) in enumerate(drawn)]
        strict = GateSettings(
            floors=(), drops=(drop(misses=0.0, over_refusals=0.0, proof="no_worse"),), draws=1000
        )
        result = run_gate(strict, report(silent), report(right), Path(folder))
        assert result.failed == result.rows
