"""`rsafe judge --file` over the scripted engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click import UsageError as ClickUsageError
from click.testing import CliRunner, Result

from tests.unit.workers.moderation.builders import make_event
from workers.commands.judge import judge
from workers.errors import UsageError

pytestmark = pytest.mark.usefixtures("bare_guard")

POLICY = """
id: house-rules
version: "3"
mode: fast
categories:
  - {code: C1, title: gambling, definition: casino; betting}
"""
PLAIN = [{"text": f"message {n}", "id": f"m-{n}"} for n in range(40)]


@pytest.fixture
def policy_file(tmp_path: Path) -> str:
    path = tmp_path / "house.yaml"
    path.write_text(POLICY)
    return str(path)


def write(path: Path, lines: list[Any]) -> str:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(judge, list(arguments))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(path: Path) -> list[dict[str, Any]]:
    timeless = [{name: value for name, value in row.items() if name != "ms"} for row in rows(path)]
    for row in timeless:
        for step in row.get("steps", []):
            del step["took_ms"]
    return timeless


def test_every_line_has_its_result_in_the_file_of_the_output(tmp_path: Path, policy_file: str) -> None:
    out = tmp_path / "out.jsonl"
    file = write(tmp_path / "in.jsonl", PLAIN)
    done = run("--policy", policy_file, "--json", "--file", file, "--output", str(out))
    assert done.exit_code == 0, done.exception
    found = rows(out)
    assert [row["id"] for row in found] == [line["id"] for line in PLAIN]
    assert {row["status"] for row in found} == {"judged"}
    assert {row["label"] for row in found} == {"safe", "unsafe"}
    assert all(row["engine"] == "scripted" and row["mode"] == "fast" for row in found)
    assert "message" not in out.read_text()
    assert "40 lines, 40 judged" in done.stderr


def test_a_line_is_judged_as_the_same_text_by_itself(tmp_path: Path, policy_file: str) -> None:
    out = tmp_path / "out.jsonl"
    context = [{"role": "assistant", "text": "hello"}]
    file = write(tmp_path / "in.jsonl", [{"text": "the c\u200basino", "context": context}])
    run("--policy", policy_file, "--file", file, "--output", str(out))
    before = write(tmp_path / "context.jsonl", context)
    alone = run("--policy", policy_file, "--json", "--context", before, "the casino")
    (row,), report = rows(out), json.loads(alone.stdout)
    for one in (row, report):
        for step in one["steps"]:
            del step["took_ms"]
    for name in ("label", "score_kind", "steps", "coverage", "policy", "policy_version", "threshold", "mode"):
        assert row[name] == report[name]
    assert row["score"] == pytest.approx(report["score"], abs=1e-6)


def test_events_and_texts_may_stand_in_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    event = msgspec.json.encode(make_event(policy="example-custom", tenant="northstar-games")).decode()
    file = write(tmp_path / "in.jsonl", [event, "", {"text": "hi"}, {"text": "hi", "policy": "minors"}])
    assert run("--file", file, "--output", str(out)).exit_code == 0
    assert [(row["line"], row["policy"]) for row in rows(out)] == [
        (1, "example-custom"),
        (3, "community"),
        (4, "minors"),
    ]


def test_a_line_that_is_not_read_does_not_stop_the_others_and_the_exit_code_says_so(
    tmp_path: Path, policy_file: str
) -> None:
    out = tmp_path / "out.jsonl"
    file = write(tmp_path / "in.jsonl", [{"text": "a"}, {"txt": "secret"}, "{", {"text": "word " * 6000}])
    done = run("--policy", policy_file, "--file", file, "--output", str(out))
    assert done.exit_code == 1
    assert [row["status"] for row in rows(out)] == ["judged", "error", "error", "unjudged"]
    assert [row.get("reason") for row in rows(out)] == [None, "invalid", "undecodable", "prompt_too_long"]
    assert "secret" not in out.read_text() + done.stderr


def test_lines_without_a_verdict_have_an_exit_code_of_their_own(tmp_path: Path, policy_file: str) -> None:
    out = tmp_path / "out.jsonl"
    file = write(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "word " * 6000}])
    command = ["--policy", policy_file, "--file", file, "--output", str(out)]
    assert run(*command).exit_code == 5
    assert run(*command).exit_code == 5  # nothing is left to do; what was found is told again


def test_a_run_may_be_asked_to_end_at_the_first_line_that_is_not_read(
    tmp_path: Path, policy_file: str
) -> None:
    out, lines = tmp_path / "out.jsonl", [{"text": "a"}, {"txt": "secret"}, {"text": "b"}]
    file = write(tmp_path / "in.jsonl", lines)
    command = ["--policy", policy_file, "--file", file, "--output", str(out), "--stop-on-error"]
    error = run(*command).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"{file}:2: $.txt: no such field is known")
    assert [row["line"] for row in rows(out)] == [1]
    write(tmp_path / "in.jsonl", [lines[0], {"text": "mended"}, lines[2]])
    assert run(*command).exit_code == 0
    assert [row["line"] for row in rows(out)] == [1, 2, 3]


def test_a_run_that_ended_early_is_gone_on_with(tmp_path: Path, policy_file: str) -> None:
    out = tmp_path / "out.jsonl"
    command = ["--policy", policy_file, "--file", write(tmp_path / "in.jsonl", PLAIN), "--output", str(out)]
    run(*command)
    whole, content = timeless(out), out.read_bytes()
    out.write_bytes(content[: len(content) // 2])
    done = run(*command)
    assert done.exit_code == 0
    assert timeless(out) == whole
    assert "lines have their results already" in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        ["--mode", "think"],
        ["--role", "assistant"],
        ["--policy", "community"],
    ],
)
def test_results_of_another_run_are_not_gone_on_with(
    tmp_path: Path, policy_file: str, change: list[str]
) -> None:
    out = tmp_path / "out.jsonl"
    command = ["--file", write(tmp_path / "in.jsonl", PLAIN), "--output", str(out), "--policy", policy_file]
    run(*command)
    content = out.read_bytes()
    error = run(*command, *change).exception
    assert isinstance(error, UsageError)
    assert "written with another policy, checkpoint, mode or setting" in str(error)
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RSAFE_GUARD__MAX_TEXT_WINDOWS", "3"),
        ("RSAFE_DECISIONS__RATIONALE", "off"),
        ("RSAFE_LIMITS__TEXT_CHARS", "100"),
        ("RSAFE_SECRETS__CONTENT_KEY", "another"),
    ],
)
def test_nor_are_those_under_other_settings(
    tmp_path: Path, policy_file: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    out = tmp_path / "out.jsonl"
    command = ["--file", write(tmp_path / "in.jsonl", PLAIN), "--output", str(out), "--policy", policy_file]
    run(*command)
    monkeypatch.setenv(variable, value)
    assert isinstance(run(*command).exception, UsageError)


def test_input_and_output_are_two_files(tmp_path: Path, policy_file: str) -> None:
    file = write(tmp_path / "in.jsonl", PLAIN)
    error = run("--policy", policy_file, "--file", file, "--output", file).exception
    assert isinstance(error, UsageError)
    assert "expected another file than --file" in str(error)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected either TEXT or --file"),
        (["text", "--file", "-"], "expected either TEXT or --file"),
        (["text", "--output", "out"], "expected --file"),
        (["text", "--stop-on-error"], "expected --file"),
        (["--file", "-", "--explain"], "--explain: expected TEXT"),
        (["--file", "-", "--context", __file__], "--context: expected TEXT"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ClickUsageError, match=sentence):
        judge.main(arguments, standalone_mode=False)


def test_standard_input_is_answered_on_standard_output_as_it_comes(policy_file: str) -> None:
    command = [sys.executable, "-m", "workers", "judge", "--policy", policy_file, "--file", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in ("one", "two"):  # the second is sent when the first is answered
            process.stdin.write(json.dumps({"text": text, "id": text}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == text
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0


def test_an_interrupted_run_keeps_what_is_done_and_goes_on_behind_it(
    tmp_path: Path, policy_file: str
) -> None:
    out, file = tmp_path / "out.jsonl", write(tmp_path / "in.jsonl", [{"text": str(n)} for n in range(2000)])
    command = ["--policy", policy_file, "--file", file, "--output", str(out)]
    slow = os.environ | {"RSAFE_GUARD__SCRIPTED_DELAY_MS": "50", "RSAFE_GUARD__MAX_CONCURRENCY": "4"}
    with subprocess.Popen(
        [sys.executable, "-m", "workers", "judge", *command], env=slow, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not (out.exists() and out.read_bytes().count(b"\n") > 10):
            assert time.monotonic() < until
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{out} has the results of" in told
    assert "Traceback" not in told
    kept = rows(out)
    assert [row["line"] for row in kept] == list(range(1, len(kept) + 1))
    assert run(*command).exit_code == 0
    assert [row["line"] for row in rows(out)] == list(range(1, 2001))
    assert rows(out)[: len(kept)] == kept


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path, policy_file: str) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": str(n)} for n in range(3000)])
    command = f"{sys.executable} -m workers judge --policy {policy_file} --file {file} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert json.loads(done.stdout)["line"] == 1
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
