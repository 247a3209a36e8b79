"""Calibrations: read strictly, and applied so that order and rates are kept."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import (
    MAX_FILE_BYTES,
    Calibration,
    Curve,
    FalsePositives,
    Scales,
    UncertainBand,
    decode_calibration,
    encode_calibration,
    open_scales,
    raw_band,
)
from guard.checkpoint import CALIBRATION, Checkpoint, open_checkpoint
from guard.errors import CheckpointError, UnsupportedRate
from guard.scores import RawBand
from schemas.policy import Band
from tests.model_folders import write_bare_folder
from tests.unit.guard import calibrations

SHARE = st.floats(0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bare_folder(tmp_path / "model")


def checkpoint(folder: Path, template: str = "rsafe-compact-1") -> Checkpoint:
    return open_checkpoint(str(folder), template=template, weights=False)


def scales(folder: Path, budget: int = 512) -> Scales:
    return open_scales(checkpoint(folder), think_budget_tokens=budget)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """Any curve that a file may hold."""
    inner = draw(st.lists(st.floats(1e-9, 1 - 1e-9), unique=True, max_size=8))
    raw = [0.0, *sorted(inner), 1.0]
    calibrated = sorted(draw(st.lists(SHARE, unique=True, min_size=len(raw), max_size=len(raw))))
    rates = sorted(draw(st.lists(st.floats(1e-6, 1.0), unique=True, min_size=1, max_size=6)))
    scores = draw(st.lists(SHARE, min_size=len(rates), max_size=len(rates)))
    return Curve(
        safe=100,
        unsafe=100,
        raw=tuple(raw),
        calibrated=tuple(calibrated),
        false_positives=FalsePositives(rates=tuple(rates), scores=tuple(sorted(scores, reverse=True))),
    )


# What the file may be


def test_a_folder_without_one_has_raw_scores_and_says_so(folder: Path) -> None:
    found = scales(folder)
    assert found.curve("fast", "user") is None
    assert found.digest_of("fast") is None
    assert found.think_score == "verdict"
    assert "has no calibration.json" in found.why("think")


def test_a_calibration_gives_a_curve_for_every_mode_and_role(folder: Path) -> None:
    own = calibrations.mode(curves={"all": calibrations.curve(), "user": calibrations.curve(safe=1000)})
    calibrations.write(
        folder,
        calibrations.content(folder, modes={"fast": own, "think": calibrations.mode(score="both")}),
    )
    found = scales(folder)
    of_users, of_assistants = found.curve("fast", "user"), found.curve("fast", "assistant")
    assert of_users is not None
    assert of_assistants is not None
    assert (of_users.safe, of_assistants.safe) == (1000, 1200)  # too few rows of a role: that of all roles
    assert found.why("fast") == found.why("think") == ""
    assert found.think_score == "both"
    assert found.digest_of("think") is not None


def test_a_mode_that_was_not_fitted_stays_raw(folder: Path) -> None:
    calibrations.write(folder, calibrations.content(folder, modes={"fast": calibrations.mode()}))
    found = scales(folder)
    assert found.curve("think", "user") is None
    assert found.digest_of("think") is None
    assert found.digest_of("fast") is not None
    assert "nothing for this mode" in found.why("think")


@pytest.mark.parametrize(
    ("budget", "changes", "holds"),
    [
        (512, {}, True),
        (90, {}, True),
        (2048, {}, True),
        (89, {}, False),
        (512, {"closed_by_force": 3}, True),
        (600, {"closed_by_force": 3}, False),
        (89, {"longest_completion_tokens": 89}, True),
    ],
)
def test_a_budget_that_ends_rationales_elsewhere_leaves_think_raw(
    folder: Path, budget: int, changes: dict[str, Any], holds: bool
) -> None:
    modes = {"fast": calibrations.mode(), "think": calibrations.mode(score="both", **changes)}
    calibrations.write(folder, calibrations.content(folder, modes=modes))
    found = scales(folder, budget)
    assert (found.curve("think", "user") is not None) is holds
    assert found.think_score == ("both" if holds else "verdict")
    assert holds or f"{budget} are allowed here" in found.why("think")
    assert found.curve("fast", "user") is not None


@pytest.mark.parametrize("field", ["weights_digest", "template_version", "parser_version"])
def test_a_calibration_for_something_else_is_refused_by_name(folder: Path, field: str) -> None:
    calibrations.write(folder, calibrations.content(folder, **{field: "f" * 64}))
    with pytest.raises(CheckpointError) as error:
        scales(folder)
    sentence = str(error.value)
    assert sentence.count("\n") == 0
    assert f"{CALIBRATION}: {field}: fitted for '{'f' * 64}'" in sentence


def test_another_template_is_other_weights(folder: Path) -> None:
    calibrations.write(folder, calibrations.content(folder))
    with pytest.raises(CheckpointError, match="template_version: fitted for 'rsafe-compact-1'"):
        open_scales(checkpoint(folder, "rsafe-instruct-1"), think_budget_tokens=512)


def _set(found: dict[str, Any], path: str, value: Any) -> None:
    *steps, last = path.split(".")
    for step in steps:
        found = found[step]
    if value is ...:
        del found[last]
    else:
        found[last] = value


CURVE = "modes.fast.curves.all"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", "rsafe-calibration-9", "format"),
        ("format", ..., "format"),
        ("surprise", 1, "surprise"),
        ("weights_digest", "short", "weights_digest"),
        ("modes", {}, "modes"),
        ("modes", {"adaptive": calibrations.mode()}, "modes"),
        ("modes", [], "modes"),
        ("modes.fast.score", "both", "score"),
        ("modes.fast.method", "guess", "method"),
        ("modes.fast.curves", {}, "curves"),
        ("modes.fast.curves", {"user": calibrations.curve()}, "curves"),
        ("modes.fast.think_budget_tokens", 0, "think_budget_tokens"),
        (f"{CURVE}.raw", [0.0, 1.0, 0.5], "raw"),
        (f"{CURVE}.raw", [0.0, 0.0, 1.0], "raw"),
        (f"{CURVE}.raw", [0.1, 0.5, 1.0], "raw"),
        (f"{CURVE}.raw", [0.0, 0.5, 1.5], "raw"),
        (f"{CURVE}.raw", [0.0], "raw"),
        (f"{CURVE}.raw", [n / 2000 for n in range(2001)], "raw"),
        (f"{CURVE}.raw", "no", "raw"),
        (f"{CURVE}.raw", [0.0, True, 1.0], "raw"),
        (f"{CURVE}.calibrated", [0.1, 0.9, 0.8], "calibrated"),
        (f"{CURVE}.calibrated", [0.1, 0.9], "calibrated"),
        (f"{CURVE}.calibrated", [-0.1, 0.5, 0.9], "calibrated"),
        (f"{CURVE}.safe", -1, "safe"),
        (f"{CURVE}.false_positives.rates", [0.1, 0.01, 1.0], "rates"),
        (f"{CURVE}.false_positives.rates", [0.0, 0.1, 1.0], "rates"),
        (f"{CURVE}.false_positives.rates", [], "rates"),
        (f"{CURVE}.false_positives.scores", [0.1, 0.6, 0.9], "scores"),
        (f"{CURVE}.false_positives.scores", [0.9], "scores"),
        (f"{CURVE}.uncertain_band", {"low": 0.9, "high": 0.1}, "uncertain_band"),
        ("data.rows", "many", "rows"),
    ],
)
def test_a_broken_file_is_refused_and_the_field_is_named(
    folder: Path, path: str, value: Any, named: str
) -> None:
    found = json.loads(json.dumps(calibrations.content(folder)))
    _set(found, path, value)
    calibrations.write(folder, found)
    with pytest.raises(CheckpointError, match=r"calibration\.json") as error:
        scales(folder)
    assert named in str(error.value)


@pytest.mark.parametrize(
    "bytes_", [b"", b"[]", b"null", b"\xff\xfe", b'{"format":', b"[" * 100_000, b'{"format": 1e999}']
)
def test_what_is_no_calibration_at_all_is_refused(folder: Path, bytes_: bytes) -> None:
    (folder / CALIBRATION).write_bytes(bytes_)
    with pytest.raises(CheckpointError, match=r"calibration\.json: not a calibration"):
        scales(folder)


def test_a_band_is_from_low_to_high() -> None:
    band = {"low": 0.9, "high": 0.1, "inside": 0, "fast_right": 0, "think_right": 0, "adaptive_right": 0}
    with pytest.raises(msgspec.ValidationError, match="high: expected at least low"):
        msgspec.convert(calibrations.curve(uncertain_band=band), Curve)


def test_a_file_of_any_size_is_not_read_whole(folder: Path) -> None:
    (folder / CALIBRATION).write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(CheckpointError, match=f"at most {MAX_FILE_BYTES} bytes"):
        scales(folder)


def test_what_is_written_is_read_again_and_the_same_every_time(folder: Path) -> None:
    found = msgspec.convert(calibrations.content(folder), Calibration)
    written = encode_calibration(found)
    assert decode_calibration(written, "it") == found
    assert encode_calibration(decode_calibration(written, "it")) == written


# What it does to scores


@given(curves(), SHARE, SHARE)
def test_a_curve_keeps_the_order_of_scores_and_their_bounds(curve: Curve, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= curve.score(low) <= curve.score(high) <= 1


@given(curves())
def test_a_curve_passes_through_its_points(curve: Curve) -> None:
    for raw, calibrated in zip(curve.raw, curve.calibrated, strict=True):
        assert curve.score(raw) == pytest.approx(calibrated, abs=1e-12)


@given(curves(), st.floats(1e-6, 1.0))
def test_a_smaller_rate_never_has_a_lower_threshold(curve: Curve, rate: float) -> None:
    found = [
        curve.threshold(r) for r in sorted({*curve.false_positives.rates, max(rate, curve.smallest_rate)})
    ]
    assert all(0 <= threshold <= 1 for threshold in found)
    assert all(before >= after for before, after in pairwise(found))


@given(curves(), SHARE)
def test_only_a_raw_score_that_the_rate_allows_reaches_its_threshold(curve: Curve, raw: float) -> None:
    """As decisions compare: both sides rounded, the threshold upwards."""
    for rate, least in zip(curve.false_positives.rates, curve.false_positives.scores, strict=True):
        if rate < 1 and round(curve.score(raw), 6) >= curve.threshold(rate):
            # Points that a decision cannot tell apart count as one.
            assert raw >= least or round(curve.score(raw), 6) == round(curve.score(least), 6)


def test_a_rate_between_two_is_read_as_the_smaller_one() -> None:
    curve = msgspec.convert(calibrations.curve(), Curve)
    assert curve.threshold(0.01) == curve.threshold(0.09) == math.ceil(0.81 * 1e6) / 1e6
    assert curve.threshold(0.1) == pytest.approx(0.39)
    assert curve.threshold(1.0) == 0.0


def test_a_rate_below_the_smallest_is_refused() -> None:
    curve = msgspec.convert(calibrations.curve(), Curve)
    with pytest.raises(UnsupportedRate, match=r"at least 0\.01, .* 1200 safe rows"):
        curve.threshold(0.009)


# The shipped checkpoint


def test_the_shipped_checkpoint_has_calibrated_scores_in_both_modes() -> None:
    shipped = open_checkpoint("tiny")
    assert shipped.verified  # the manifest covers the calibration
    found = open_scales(shipped, think_budget_tokens=512)
    for mode in ("fast", "think"):
        assert found.why(mode) == ""
        for role in ("user", "assistant"):
            curve = found.curve(mode, role)
            assert curve is not None
            assert min(curve.safe, curve.unsafe) >= 1100
            assert curve.smallest_rate <= 0.01
            assert curve.threshold(0.01) > curve.threshold(0.05) > 0.1
    fast = found.curve("fast", "user")
    assert fast is not None
    assert fast.uncertain_band is not None
    assert fast.uncertain_band.inside < 0.5


def test_the_shipped_checkpoints_error_is_within_its_bar() -> None:
    manifest = open_checkpoint("tiny").manifest
    assert manifest is not None
    found = {bar["mode"]: bar for bar in manifest.gate["bars"] if bar["figure"] == "ece"}
    assert set(found) == {"fast", "think"}
    assert all(bar["met"] and bar["value"] <= bar["most"] == 0.05 for bar in found.values())


# The uncertain band in raw scores


@given(curves(), SHARE)
def test_the_least_raw_score_of_a_calibrated_one_is_the_inverse(curve: Curve, calibrated: float) -> None:
    least = curve.least_raw(calibrated)
    if math.isinf(least):
        assert curve.score(1.0) < calibrated
        return
    assert 0.0 <= least <= 1.0
    # A raw score is exact to some 1e-16, and a steep segment multiplies that.
    steep = max((b - a) / (y - x) for x, y, a, b in _segments(curve))
    within = 1e-9 + 1e-15 * steep
    assert curve.score(least) == pytest.approx(max(calibrated, curve.calibrated[0]), abs=within)


@given(curves(), st.tuples(SHARE, SHARE).map(sorted), SHARE)
def test_a_raw_band_holds_what_the_calibrated_one_holds(curve: Curve, ends: list[float], raw: float) -> None:
    low, high = ends
    band = UncertainBand(low=low, high=high, inside=0, fast_right=0, think_right=0, adaptive_right=0)
    calibrated = curve.score(raw)
    if min(abs(calibrated - low), abs(calibrated - high)) < 1e-9 and calibrated not in (low, high):
        return  # on an edge, where the interpolation rounds
    steep = max((b - a) / (y - x) for x, y, a, b in _segments(curve))
    if min(abs(calibrated - low), abs(calibrated - high)) <= 1e-15 * (1 + steep):
        return
    assert raw_band(band, curve).holds(raw) is band.holds(calibrated)


def _segments(curve: Curve) -> list[tuple[float, float, float, float]]:
    pairs = zip(curve.raw, curve.calibrated, strict=True)
    return [(x, y, a, b) for (x, a), (y, b) in pairwise(pairs)]


def test_without_a_curve_a_band_is_raw_already() -> None:
    assert raw_band(Band(low=0.2, high=0.8), None) == RawBand(0.2, 0.8)
    assert raw_band(Band(low=0.2, high=1.0), None).holds(1.0)
    assert not raw_band(Band(low=1.0, high=1.0), None).holds(1.0)


def test_a_band_beyond_the_curve_holds_nothing_of_it(folder: Path) -> None:
    calibrations.write(folder, calibrations.content(folder))
    curve = scales(folder).curve("fast", "user")
    assert curve is not None
    assert raw_band(Band(low=0.0, high=0.05), curve) == RawBand(0.0, 0.0)
    assert raw_band(Band(low=0.96, high=0.99), curve) == RawBand(math.inf, math.inf)
    # It ends where the curve does: scores of exactly 1, as there are many, are certain.
    assert raw_band(Band(low=0.25, high=0.95), curve) == RawBand(0.5, 1.0)
    assert not raw_band(Band(low=0.25, high=0.95), curve).holds(1.0)


def test_adaptive_is_calibrated_where_both_of_its_ways_are(folder: Path) -> None:
    calibrations.write(folder, calibrations.content(folder))
    both = scales(folder)
    assert (both.why("adaptive"), both.digest_of("adaptive")) == ("", both.digest)
    calibrations.write(folder, calibrations.content(folder, modes={"fast": calibrations.mode()}))
    one = scales(folder)
    # Some of its scores are calibrated, and a decision has to say by what.
    assert one.why("adaptive") == one.why("think") != ""
    assert one.digest_of("adaptive") == one.digest
    assert Scales(why_raw="none").digest_of("adaptive") is None
