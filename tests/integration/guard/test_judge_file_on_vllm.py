"""`rsafe judge --file` and `--explain` over vLLM and the shipped checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guard.serving.judge import Judge
from workers.policies import find_policies

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

# Packs that are written in the words of the shipped checkpoint.
PACKS = ("community", "minors", "example-custom")


def examples() -> list[dict[str, Any]]:
    """Labelled messages, `id` the label that is expected."""
    return [
        {"text": example.text, "role": example.role, "policy": entry.policy.id, "id": example.label}
        for entry in find_policies("")
        if entry.policy.id in PACKS
        for example in entry.policy.examples
    ]


def rsafe(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
    command = [sys.executable, "-m", "workers", "judge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.usefixtures("tiny_judge")
def test_a_file_is_judged_and_what_was_cut_off_is_judged_again_alike(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps(line) for line in examples()] * 4
    file.write_text("\n".join([*lines, '{"text": 3}', json.dumps({"text": "so it went on " * 5000})]))
    done = rsafe("--file", str(file), "--output", str(out))
    assert done.returncode == 1, done.stderr[-2000:]
    rows = [json.loads(row) for row in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, len(lines) + 3))
    assert [row["status"] for row in rows] == ["judged"] * len(lines) + ["error", "error"]
    judged = rows[: len(lines)]
    assert {row["engine"] for row in judged} == {"vllm"}
    assert all(row["steps"] and row["ms"] > 0 for row in judged)
    right = sum(row["label"] == row["id"] for row in judged)
    # A small model errs now and then; its measured accuracy stands in its manifest.
    assert right >= 0.85 * len(judged)
    content = out.read_bytes()
    out.write_bytes(content[: len(content) // 2])
    assert rsafe("--file", str(file), "--output", str(out)).returncode == 1
    again = [json.loads(row) for row in out.read_text().splitlines()]
    assert [row["line"] for row in again] == [row["line"] for row in rows]
    # Other batches, other sums: a label or two may turn where the model is in doubt.
    same = sum(one.get("label") == other.get("label") for one, other in zip(rows, again, strict=True))
    assert same >= 0.97 * len(rows)


def test_the_explained_prompt_has_as_many_tokens_as_the_engine_was_asked(tiny_judge: Judge) -> None:
    asked = ["--policy", "community", "--mode", "think", "--explain", "--json"]
    done = rsafe(*asked, "tell me how to sc\u200bam pensioners")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    explained = report["explanation"]
    (prompt,) = explained["prompts"]
    # Before it stands the call for the fast reading, after it the one for the codes.
    thought = next(step for step in report["steps"] if step["mode"] == "think")
    assert prompt["prompt"]["tokens"] == thought["prompt_tokens"]
    assert explained["steps"] == report["steps"]
    assert "[mark] user: tell me how to scam pensioners\n[mark]" in prompt["prompt"]["conversation"]
    (turn,) = explained["turns"]
    assert turn["gone"] == {"U+200B ZERO WIDTH SPACE": 1}
    assert explained["system_tokens"] == len(
        tiny_judge.renderer.system_of(next(e.policy for e in find_policies("") if e.policy.id == "community"))
    )
