"""A calibration in its file, for tests: JSON-ready, to be changed in one place and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guard.answer import RSAFE_PROFILE
from guard.checkpoint import CALIBRATION, open_checkpoint


def curve(**changes: Any) -> dict[str, Any]:
    """Raw 0.5 is calibrated 0.25; one safe row in a hundred has a raw score of 0.9 or more."""
    base: dict[str, Any] = {
        "safe": 1200,
        "unsafe": 1100,
        "raw": [0.0, 0.5, 1.0],
        "calibrated": [0.05, 0.25, 0.95],
        "false_positives": {"rates": [0.01, 0.1, 1.0], "scores": [0.9, 0.6, 0.0]},
    }
    return base | changes


def mode(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "score": "verdict",
        "method": "isotonic",
        "think_budget_tokens": 512,
        "longest_completion_tokens": 90,
        "closed_by_force": 0,
        "curves": {"all": curve()},
    }
    return base | changes


def content(folder: Path, template: str = "rsafe-compact-1", **changes: Any) -> dict[str, Any]:
    """A whole calibration for the checkpoint in a folder."""
    digest = open_checkpoint(str(folder), template=template, weights=False).weights_digest
    return whole(weights_digest=digest, template_version=template) | changes


def whole(**changes: Any) -> dict[str, Any]:
    """A whole calibration for no checkpoint."""
    base: dict[str, Any] = {
        "format": "rsafe-calibration-1",
        "weights_digest": "0" * 64,
        "template_version": "rsafe-compact-1",
        "parser_version": RSAFE_PROFILE.name,
        "engine": "vllm 0.32.0",
        "data": {"name": "rows", "sha256": "a" * 64, "rows": 2300, "near_duplicates": 7},
        "modes": {"fast": mode(), "think": mode(score="both")},
    }
    return base | changes


def write(folder: Path, found: dict[str, Any]) -> None:
    (folder / CALIBRATION).write_text(json.dumps(found))
