"""A checkpoint's calibration: what its scores are worth, from rows on which it was never trained.

`calibration.json` in the checkpoint's folder maps raw scores to calibrated ones, per mode and role, and says
which share of safe messages lies above a score, so that a policy may ask for a false-positive rate. It is
made by `rsafe train evaluate`, and applied when a decision is made: verdicts are remembered raw, so it is
part of the checkpoint digest and not of the weights digest.

Whatever is in the file is checked here, since a folder may come from anywhere. Long for that: one subject.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from guard.checkpoint import CALIBRATION, Checkpoint
from guard.errors import CheckpointError, UnsupportedRate
from guard.scores import RawBand, ThinkScore
from schemas.identifiers import Count, Mode, Positive, Probability, Role, Sha256
from schemas.policy import Band

FORMAT: Final = "rsafe-calibration-1"
# Two modes with three curves of a thousand points have about 250,000 bytes.
MAX_FILE_BYTES: Final = 1_048_576
# Decisions show so many digits of a score; thresholds are rounded up to them.
SCORE_DIGITS: Final = 6
_STEP: Final = 10.0**SCORE_DIGITS

ROLES: Final[tuple[Role, ...]] = ("user", "assistant")
Group = Literal["all", "user", "assistant"]
Points = Annotated[tuple[Probability, ...], Meta(min_length=2, max_length=1024)]
Rate = Annotated[float, Meta(gt=0.0, le=1.0)]


class FalsePositives(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the safe rows lie at or above a raw score: at most `rates[i]` of them at `scores[i]`."""

    rates: Annotated[tuple[Rate, ...], Meta(min_length=1, max_length=1024)]
    """Shares of the safe rows, ascending; the first is the smallest that the rows can support."""
    scores: Annotated[tuple[Probability, ...], Meta(min_length=1, max_length=1024)]
    """Raw scores, descending; as many as `rates`."""

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.rates):
            raise ValueError(f"scores: expected {len(self.rates)} numbers, as many as in rates")
        if not _ascending(self.rates):
            raise ValueError("rates: expected ascending numbers, none twice")
        if any(after > before for before, after in pairwise(self.scores)):
            raise ValueError("scores: expected descending numbers")


class UncertainBand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The calibrated scores of `fast` between which thinking pays: from `low`, below `high`.

    The narrowest band, by the share of rows within it, with which asking again only there is right as often
    as always thinking, less a tolerance. The shares are of the rows that it was fitted on.
    """

    low: Probability
    high: Probability
    inside: Probability
    """Share of the rows whose score lies in the band."""
    fast_right: Probability
    """Share of the rows that `fast` judges rightly."""
    think_right: Probability
    """The same of `think`."""
    adaptive_right: Probability
    """The same when `think` is asked within the band alone."""

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError("high: expected at least low")

    def holds(self, score: float) -> bool:
        """Whether a calibrated score lies in the band; a band that ends at 1 holds 1, too."""
        return self.low <= score and (score < self.high or self.low < self.high == 1.0)


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From raw score to calibrated score, linear between points; strictly rising, so that order is kept."""

    safe: Count
    """Safe rows that it was fitted on."""
    unsafe: Count
    """Unsafe rows that it was fitted on."""
    raw: Points
    """Ascending, from 0 to 1."""
    calibrated: Points
    """Ascending; as many as `raw`."""
    false_positives: FalsePositives
    uncertain_band: UncertainBand | None = None
    """With `fast` only."""

    def __post_init__(self) -> None:
        if self.raw[0] != 0.0 or self.raw[-1] != 1.0 or not _ascending(self.raw):
            raise ValueError("raw: expected ascending numbers from 0 to 1, none twice")
        if len(self.calibrated) != len(self.raw):
            raise ValueError(f"calibrated: expected {len(self.raw)} numbers, as many as in raw")
        if not _ascending(self.calibrated):
            raise ValueError("calibrated: expected ascending numbers, none twice")

    def score(self, raw: float) -> float:
        """The calibrated score of a raw one, both from 0 to 1."""
        xs, ys = self.raw, self.calibrated
        at = bisect_right(xs, raw)
        if at == len(xs):
            return ys[-1]
        if at == 0:
            return ys[0]
        low, bottom = xs[at - 1], ys[at - 1]
        return bottom + (ys[at] - bottom) * (raw - low) / (xs[at] - low)

    def threshold(self, rate: float) -> float:
        """The calibrated score that at most so large a share of the safe rows reaches.

        Rounded up as decisions round scores. Raises `UnsupportedRate` below the smallest rate.
        """
        at = bisect_right(self.false_positives.rates, rate)
        if at == 0:
            raise UnsupportedRate(
                f"expected at least {self.smallest_rate:g}, the smallest rate that the calibration's "
                f"{self.safe} safe rows support"
            )
        if rate >= 1.0:
            return 0.0
        score = self.score(self.false_positives.scores[at - 1])
        return min(1.0, math.ceil(score * _STEP) / _STEP)

    def least_raw(self, calibrated: float) -> float:
        """The least raw score that is calibrated to so much or more; infinite where none is.

        The inverse of `score`, up to the rounding of the interpolation.
        """
        xs, ys = self.raw, self.calibrated
        at = bisect_left(ys, calibrated)
        if at == len(ys):
            return math.inf
        if at == 0:
            return 0.0
        low, bottom = xs[at - 1], ys[at - 1]
        return min(xs[at], low + (xs[at] - low) * ((calibrated - bottom) / (ys[at] - bottom)))

    @property
    def smallest_rate(self) -> float:
        """The smallest false-positive rate that it can resolve."""
        return self.false_positives.rates[0]


class ModeCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mode: which score it is of, how it was fitted, and a curve per role."""

    score: ThinkScore
    """What the score of `think` is made of; `verdict` for `fast`."""
    method: Literal["isotonic", "platt"]
    think_budget_tokens: Positive
    """Longest rationale that was allowed when it was fitted."""
    longest_completion_tokens: Count
    """Longest completion that ended by itself."""
    closed_by_force: Count = 0
    """Rows whose rationale was over the budget."""
    curves: Annotated[dict[Group, Curve], Meta(min_length=1)]
    """`all`, and a role that has rows enough of its own."""

    def __post_init__(self) -> None:
        if "all" not in self.curves:
            raise ValueError("curves: expected an entry `all`")

    def curve(self, role: Role) -> Curve:
        """The role's own curve, else that of all roles."""
        return self.curves.get(role) or self.curves["all"]

    def holds(self, think_budget_tokens: int) -> bool:
        """Whether rationales end where they did when it was fitted, under another budget too."""
        if think_budget_tokens == self.think_budget_tokens:
            return True
        return not self.closed_by_force and self.longest_completion_tokens <= think_budget_tokens


class FittedOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows: whence they come, and what was left out of them."""

    name: str
    """What they are, in words."""
    sha256: Sha256
    """Of the rows, in their order."""
    rows: Count
    near_duplicates: Count
    """Rows left out because the evaluation has one that is almost the same."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    format: str
    weights_digest: Sha256
    """Of the checkpoint whose scores they are, the prompt template included."""
    template_version: str
    parser_version: str
    engine: str
    """What ran the model, with its version."""
    data: FittedOn
    modes: Annotated[dict[Literal["fast", "think"], ModeCalibration], Meta(min_length=1)]

    def __post_init__(self) -> None:
        fast = self.modes.get("fast")
        if fast is not None and fast.score != "verdict":
            raise ValueError("modes: fast: score: expected `verdict`")


def raw_band(band: UncertainBand | Band, curve: Curve | None) -> RawBand:
    """A band in raw scores: inverted by the curve of `fast`, where there is one; else it is raw already."""
    to_the_top = band.low < band.high == 1.0
    if curve is None:
        return RawBand(band.low, math.inf if to_the_top else band.high)
    high = math.inf if to_the_top else curve.least_raw(band.high)
    return RawBand(curve.least_raw(band.low), high)


@dataclass(frozen=True, slots=True)
class Scales:
    """How raw scores are read by mode and role; without a curve they stay raw, and `why_raw` says why.

    `digest` is the SHA-256 of the file, None without one.
    """

    why_raw: str
    digest: str | None = None
    think_score: ThinkScore = "verdict"
    curves: Mapping[tuple[Mode, Role], Curve] = field(default_factory=lambda: MappingProxyType({}))
    why_mode_raw: Mapping[Mode, str] = field(default_factory=lambda: MappingProxyType({}))

    def curve(self, mode: Mode, role: Role) -> Curve | None:
        """The curve of a mode and role; None: its scores stay raw."""
        return self.curves.get((mode, role))

    def why(self, mode: Mode) -> str:
        """Why the scores of a mode are raw; empty when they are not.

        Those of `adaptive` are read by the curve of the way that it went, so it needs both.
        """
        if mode == "adaptive":
            return self.why("fast") or self.why("think")
        if any(known == mode for known, _ in self.curves):
            return ""
        return self.why_mode_raw.get(mode, self.why_raw)

    def digest_of(self, mode: Mode) -> str | None:
        """The digest, for a mode that has curves; for `adaptive`, where either way has."""
        if mode == "adaptive":
            return self.digest_of("fast") or self.digest_of("think")
        return None if self.why(mode) else self.digest


def open_scales(checkpoint: Checkpoint, *, think_budget_tokens: int) -> Scales:
    """What the checkpoint's calibration gives, read strictly; raw scores where it has none.

    `think_budget_tokens`: the longest rationale that is allowed now; one that cuts rationales which were
    whole when the calibration was fitted leaves `think` raw. Raises `CheckpointError` naming the file and
    the field, also when it was fitted for other weights, another template or another grammar of answers.
    """
    content = _read(checkpoint)
    if content is None:
        return Scales(why_raw=f"the checkpoint {checkpoint.name} has no {CALIBRATION}")
    calibration = decode_calibration(content, str(checkpoint.path / CALIBRATION))
    _check_fits(calibration, checkpoint)
    curves: dict[tuple[Mode, Role], Curve] = {}
    why: dict[Mode, str] = {}
    for mode, fitted in calibration.modes.items():
        if mode == "think" and not fitted.holds(think_budget_tokens):
            why[mode] = (
                f"the calibration of {checkpoint.name} for think was fitted with rationales of up to "
                f"{fitted.think_budget_tokens} tokens, and {think_budget_tokens} are allowed here"
            )
            continue
        for role in ROLES:
            curves[mode, role] = fitted.curve(role)
    return Scales(
        why_raw=f"the calibration of {checkpoint.name} has nothing for this mode",
        digest=hashlib.sha256(content).hexdigest(),
        think_score=calibration.modes["think"].score if ("think", "user") in curves else "verdict",
        curves=MappingProxyType(curves),
        why_mode_raw=MappingProxyType(why),
    )


def decode_calibration(content: bytes, name: str) -> Calibration:
    """The calibration in a file's content; `name` is the file's, for the errors. Raises `CheckpointError`."""
    try:
        calibration = msgspec.json.decode(content, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{name}: not a calibration: {error}") from error
    if calibration.format != FORMAT:
        raise CheckpointError(f"{name}: format: expected {FORMAT!r}")
    return calibration


def encode_calibration(calibration: Calibration) -> bytes:
    """The content of the file; the same calibration gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(calibration, order="sorted"), indent=1) + b"\n"


def _read(checkpoint: Checkpoint) -> bytes | None:
    path = checkpoint.path / CALIBRATION
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise CheckpointError(f"{path}: expected at most {MAX_FILE_BYTES} bytes")
    return content


def _check_fits(calibration: Calibration, checkpoint: Checkpoint) -> None:
    for name, fitted, found in (
        ("template_version", calibration.template_version, checkpoint.template_version),
        ("parser_version", calibration.parser_version, checkpoint.profile.grammar),
        ("weights_digest", calibration.weights_digest, checkpoint.weights_digest),
    ):
        if fitted != found:
            raise CheckpointError(
                f"{checkpoint.path / CALIBRATION}: {name}: fitted for {fitted!r}, and {found!r} is in use; "
                "fit it anew with `rsafe train evaluate`, or switch calibration off"
            )


def _ascending(values: Sequence[float]) -> bool:
    return all(before < after for before, after in pairwise(values))
