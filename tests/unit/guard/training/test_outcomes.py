from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from guard.training.evaluation import Outcome
from guard.training.outcomes import keep, place_of, recall

FOUND = [Outcome("unsafe", ("C1",), 0.99, completions=(17,)), Outcome(None, reason="no_verdict")]


def test_what_is_kept_is_recalled_with_its_time(tmp_path: Path) -> None:
    place = place_of(tmp_path / "outcomes", "fit-fast-pairs/on", "abcdef0123456789")
    assert place.name == "fit-fast-pairs-on-abcdef012345.json"
    assert recall(place, list[Outcome]) is None
    keep(place, FOUND, 1.5)
    assert recall(place, list[Outcome]) == (FOUND, 1.5)
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_half_a_file_is_no_result(tmp_path: Path) -> None:
    place = place_of(tmp_path, "x", "0")
    keep(place, FOUND, 1.0)
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(msgspec.DecodeError):
        recall(place, list[Outcome])
