from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from guard.training.reliability import draw

POINTS = [{"n": 10, "score": 0.1, "unsafe": 0.2}, {"n": 10, "score": 0.9, "unsafe": 0.8}]
GROUP: dict[str, Any] = {
    "n": 20,
    "raw": {"ece": 0.123},
    "calibrated": {"ece": 0.045},
    "bins": {"raw": POINTS, "calibrated": POINTS},
    "counts": {"raw": [10, 0, 0, 10], "calibrated": [5, 5, 5, 5]},
}


def measured(*modes: str) -> dict[str, Any]:
    return {mode: {"method": "platt", "groups": {"all": GROUP}} for mode in modes}


def texts(path: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(path).iter() if element.tag.endswith("text")]


def test_the_picture_names_modes_errors_and_rows_in_letters(tmp_path: Path) -> None:
    draw(measured("fast", "think"), tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "fast (platt, n = 20)" in found
    assert "think (platt, n = 20)" in found
    assert found.count("raw, ECE 0.123") == found.count("calibrated, ECE 0.045") == 2


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(measured("fast"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
