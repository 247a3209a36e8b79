"""`rsafe judge --explain` over the scripted engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from guard.calibration import Scales
from tests.unit.workers.moderation.builders import make_scales
from workers.commands.judge import judge

pytestmark = pytest.mark.usefixtures("bare_guard")

POLICY = """
id: house-rules
version: "3"
mode: fast
categories:
  - {code: C10, title: gambling, definition: casino; betting}
  - {code: C2, title: spam, definition: "red \\e[31m", threshold: 0.8}
"""


@pytest.fixture
def policy_file(tmp_path: Path) -> str:
    path = tmp_path / "house.yaml"
    path.write_text(POLICY)
    return str(path)


def shown(*arguments: str) -> str:
    return CliRunner().invoke(judge, [*arguments, "--explain"]).stdout


def test_the_prompt_is_shown_with_its_parts_told_apart(policy_file: str) -> None:
    lines = shown("--policy", policy_file, "meet me at the\nca\u200bsino").splitlines()
    framed = [line for line in lines if line.startswith("  | ")]
    said = [line for line in lines if line.startswith("  > ")]
    assert "  | judge the last turn by this policy." in framed
    assert framed[-1] == "  | <think>"
    assert said == ["  > [mark] user: meet me at the", "  > casino", "  > [mark]"]
    assert "            gone: U+200B ZERO WIDTH SPACE (1)" in lines


def test_control_characters_of_a_policy_are_harmless(policy_file: str) -> None:
    text = shown("--policy", policy_file, "hello")
    assert "\x1b" not in text
    assert "red \\x1b[31m" in text


def test_score_threshold_action_and_steps_are_told(policy_file: str) -> None:
    lines = shown("--policy", policy_file, "hello").splitlines()
    text = "\n".join(lines)
    assert "raw, since the engine `scripted` runs no model" in text
    assert "threshold   0.5, the policy's threshold" in lines
    assert "threshold   0.8, C2's own threshold" in lines
    assert any(line.startswith("action      ") for line in lines)
    assert any(line.startswith("step 1 ") and "mode fast, prompt_tokens" in line for line in lines)


def test_the_curve_and_the_rate_behind_score_and_threshold_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: Scales = make_scales()
    monkeypatch.setattr("workers.commands.judge.stored_scales", lambda *_: scales)
    path = tmp_path / "rated.yaml"
    path.write_text(POLICY + "max_false_positive_rate: 0.1\n")
    report = json.loads(shown("--policy", str(path), "--json", "hello"))["explanation"]
    curve = scales.curve("fast", "user")
    assert curve is not None
    assert report["score"]["shown"] == pytest.approx(curve.score(report["score"]["raw"]), abs=1e-6)
    assert (report["score"]["safe_rows"], report["score"]["calibration_digest"]) == (1000, "d" * 64)
    assert report["thresholds"][0] == {
        "of": "policy",
        "score": curve.threshold(0.1),
        "origin": "max_false_positive_rate 0.1",
    }
    assert "by the calibration's curve of 1,000 safe and 1,000 unsafe rows" in shown(
        "--policy", str(path), "hello"
    )


def test_text_windows_are_told_each_with_its_verdict(policy_file: str) -> None:
    asked = ["--policy", policy_file, "word " * 1000]
    report = json.loads(shown("--json", *asked))
    prompts = report["explanation"]["prompts"]
    assert len(prompts) == report["coverage"]["windows"] > 1
    assert max(one["raw_score"] for one in prompts) == pytest.approx(report["raw_score"])
    assert all(one["label"] in ("safe", "unsafe") for one in prompts)
    lines = shown(*asked).splitlines()
    told = [line for line in lines if line.startswith("prompt 1 of")]
    assert len(told) == 1
    assert "characters" in told[0]


def test_what_does_not_fit_is_explained_too(policy_file: str) -> None:
    lines = shown("--policy", policy_file, "word " * 20_000).splitlines()
    assert "prompt      none: nothing was asked" in lines
    assert any("left out" in line for line in lines)
    assert "score       none" in lines
