"""How long texts are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import UsageError
from workers.load.lengths import read_lengths


def _draw(spec: str, *, seed: int = 1, count: int = 20_000, longest: int = 10_000) -> list[int]:
    found: list[int] = read_lengths(spec).draw(np.random.default_rng(seed), count, longest).tolist()
    return found


def test_a_fixed_length_is_that() -> None:
    assert set(_draw("fixed:7")) == {7}


@given(st.integers(1, 500), st.integers(0, 500))
def test_uniform_lengths_stay_within_both_bounds_and_reach_them(low: int, width: int) -> None:
    found = _draw(f"uniform:{low}:{low + width}")
    assert (min(found), max(found)) == (low, low + width)


@given(st.integers(20, 500), st.floats(0, 1.5))
def test_a_lognormal_has_the_median_and_the_spread(median: int, sigma: float) -> None:
    found = _draw(f"lognormal:{median}:{sigma}", longest=10**9)
    assert np.median(found) == pytest.approx(median, rel=0.06, abs=1)
    assert np.std(np.log(found)) == pytest.approx(sigma, rel=0.1, abs=0.03)


def test_what_lies_outside_is_moved_to_the_bound() -> None:
    found = _draw("lognormal:50:2", longest=80)
    assert (min(found), max(found)) == (1, 80)
    assert 0.3 < found.count(80) / len(found) < 0.5


def test_the_same_seed_draws_the_same() -> None:
    assert _draw("lognormal:60:0.8") == _draw("lognormal:60:0.8")
    assert _draw("lognormal:60:0.8") != _draw("lognormal:60:0.8", seed=2)


def test_a_file_gives_its_lengths_in_their_shares(tmp_path: Path) -> None:
    file = tmp_path / "lengths.jsonl"
    file.write_bytes(b'10\n"four"\n\n{"text": "sixsix"}\n{"message": {"text": "nineninen"}}\n')
    found = _draw(str(file))
    assert set(found) == {10, 4, 6, 9}
    for length in set(found):
        assert found.count(length) / len(found) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fixed:0", "expected fixed:N, with lengths from 1"),
        ("fixed:x", "expected fixed:N, with numbers"),
        ("fixed:1.5", "expected fixed:N, with whole numbers"),
        ("uniform:5", "expected uniform:A:B, with numbers"),
        ("uniform:5:4", "expected uniform:A:B, B not below A"),
        ("lognormal:60:-1", "expected lognormal:MEDIAN:SIGMA, with lengths from 1 and SIGMA from 0"),
        ("lognormal:nan:1", "expected lognormal:MEDIAN:SIGMA, with numbers"),
        ("gamma:1:2", "or a file; gamma:1:2: No such file"),
    ],
)
def test_what_is_no_distribution_is_told_with_what_was_expected(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_lengths(spec)


@pytest.mark.parametrize(
    "line", [b"0", b"-1", b"1.5", b"true", b"null", b"[]", b'{"words": 1}', b"secret", b"\xff"]
)
def test_a_bad_line_of_a_file_is_named_and_not_quoted(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "lengths"
    file.write_bytes(b"5\n" + line + b"\n")
    with pytest.raises(UsageError, match=r"lengths:2: expected a whole number from 1") as caught:
        read_lengths(str(file))
    assert "secret" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lengths"
    file.write_bytes(b"\n\n")
    with pytest.raises(UsageError, match="holds no line"):
        read_lengths(str(file))
