"""The picture of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.workers.load.test_report import RATE, _sent, _summarise
from tests.unit.workers.load.test_words import _outcomes
from workers.errors import UsageError
from workers.load.drive import Sent
from workers.load.follow import Outcomes
from workers.load.picture import check_picture, draw


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml")])
@pytest.mark.parametrize("rate", [RATE, None])
def test_a_picture_is_drawn_as_its_name_says(
    name: str, begins: bytes, rate: float | None, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    sent = _sent(5, 100, 200)
    check_picture(tmp_path / name)
    draw(_summarise(sent, _outcomes(sent), rate), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_run_without_outcomes_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(_summarise(Sent(), Outcomes()), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 0


def test_another_ending_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ends with \.png or \.svg, not a\.gif"):
        check_picture(Path("somewhere/a.gif"))


def test_without_matplotlib_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"expected matplotlib, which is not installed.*extra `load`"):
        check_picture(Path("a.png"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=r"--picture: .*a\.png: No such file"):
        draw(_summarise(Sent(), Outcomes()), tmp_path / "absent" / "a.png")
