"""`rsafe judge` over the scripted engine: input, output and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from guard.errors import GuardError
from guard.normalise import NORMALISER
from workers.commands.judge import judge
from workers.commands.judge_start import EXIT_UNJUDGED
from workers.errors import SettingsError, UsageError

pytestmark = pytest.mark.usefixtures("bare_guard")

POLICY = """
id: house-rules
version: "3"
mode: fast
categories:
  - {code: C1, title: gambling, definition: casino; betting}
"""


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "house.yaml"
    path.write_text(POLICY)
    return path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(judge, list(arguments), input=stdin)


def failure(*arguments: str) -> BaseException:
    result = run(*arguments)
    assert result.exception is not None
    return result.exception


def test_a_verdict_is_shown_for_people(policy_file: Path) -> None:
    result = run("--policy", str(policy_file), "--mode", "think", "meet me at the casino")
    assert result.exit_code == 0
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert shown["verdict"] in ("safe", "unsafe")
    assert shown["policy"] == "house-rules 3, mode think"
    assert "scripted" in shown["guard"]
    assert shown["rationale"] == "scripted answer, no model read this."


def test_json_holds_the_whole_answer(policy_file: Path) -> None:
    result = run("--policy", str(policy_file), "--json", "meet me at the casino")
    report = json.loads(result.stdout)
    assert report["status"] == "judged"
    assert report["mode"] == "fast"
    assert 0 <= report["score"] <= 1
    assert (report["score_kind"], report["raw_score"]) == ("raw", pytest.approx(report["score"], abs=1e-6))
    assert report["steps"][0]["completion_tokens"] == 1
    assert report["guard"]["engine"] == "scripted"
    assert report["ms"] >= 0


def test_a_score_says_whether_it_is_calibrated(policy_file: Path) -> None:
    shown = run("--policy", str(policy_file), "meet me at the casino").stdout
    assert re.search(r"^p\(unsafe\)   0\.\d{4} raw, threshold 0\.5$", shown, re.MULTILINE)


def test_a_rate_without_a_calibration_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    path = tmp_path / "rated.yaml"
    path.write_text(POLICY + "max_false_positive_rate: 0.01\n")
    error = failure("--policy", str(path), "text")
    assert isinstance(error, SettingsError)
    assert "policy 'house-rules': max_false_positive_rate" in str(error)
    assert "`scripted` runs no model" in str(error)


def test_the_default_policy_is_used_when_none_is_named() -> None:
    assert json.loads(run("--json", "hello").stdout)["policy"] == "community"


def test_a_dash_reads_the_text_from_standard_input(policy_file: Path) -> None:
    named = json.loads(run("--policy", str(policy_file), "--json", "the text").stdout)
    piped = json.loads(run("--policy", str(policy_file), "--json", "-", stdin="the text\n").stdout)
    assert piped["score"] == named["score"]
    for step in (*piped["steps"], *named["steps"]):
        del step["took_ms"]
    assert piped["steps"] == named["steps"]


def test_message_and_context_are_normalised_before_they_are_judged(policy_file: Path, tmp_path: Path) -> None:
    def score(text: str, before: str) -> float:
        context = tmp_path / "context.jsonl"
        context.write_text(json.dumps({"role": "user", "text": before}))
        found = run("--policy", str(policy_file), "--context", str(context), "--json", text)
        report = json.loads(found.stdout)
        assert report["guard"]["decoding"].endswith(f"text={NORMALISER} codes=scored")
        return float(report["score"])

    plain = score("meet me at the casino", "hello")
    assert score("meet me at the ca\u200bs\u0456no", "ｈello") == plain
    assert score("meet me at the casino.", "hello") != plain


def test_context_is_part_of_the_question(policy_file: Path, tmp_path: Path) -> None:
    context = tmp_path / "context.jsonl"
    context.write_text('{"role": "user", "text": "hello"}\n\n{"role": "assistant", "text": "hi"}\n')
    alone = json.loads(run("--policy", str(policy_file), "--json", "the text").stdout)
    within = json.loads(
        run("--policy", str(policy_file), "--context", str(context), "--json", "the text").stdout
    )
    assert within["steps"][0]["prompt_tokens"] > alone["steps"][0]["prompt_tokens"]


def test_no_verdict_has_an_exit_code_of_its_own(policy_file: Path) -> None:
    result = run("--policy", str(policy_file), "word " * 20_000)
    assert result.exit_code == EXIT_UNJUDGED == 5
    assert "unjudged: prompt_too_long (too many text windows)" in result.stdout


def test_it_is_told_how_a_conversation_was_cut(policy_file: Path, tmp_path: Path) -> None:
    context = tmp_path / "context.jsonl"
    context.write_text('{"role": "user", "text": "hello"}\n{"role": "assistant", "text": "hi"}\n')
    asked = ["--policy", str(policy_file), "--context", str(context), "word " * 1000]
    (told,) = [line for line in run(*asked).stdout.splitlines() if line.startswith("coverage")]
    coverage = json.loads(run("--json", *asked).stdout)["coverage"]
    assert coverage["windows"] > 1
    assert (coverage["windows_unjudged"], coverage["turns_left_out"]) == (0, 2)
    assert told == f"coverage    {coverage['windows']} text windows, earlier turns left out: 2"


def test_nothing_is_told_of_the_coverage_of_a_conversation_that_fits(policy_file: Path) -> None:
    assert "coverage" not in run("--policy", str(policy_file), "hello").stdout
    coverage = json.loads(run("--policy", str(policy_file), "--json", "hello").stdout)["coverage"]
    assert coverage == {"windows": 1, "windows_unjudged": 0, "turns_left_out": 0}


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    error = failure("--policy", "no-such", "text")
    assert isinstance(error, UsageError)
    assert "'no-such'" in str(error)
    assert "community" in str(error)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"role": "bot", "text": "hi"}', "role: expected `user` or `assistant`"),
        (b'{"role": 3, "text": "hi"}', "role: expected `user` or `assistant`"),
        (b'{"role": "user", "text": 3}', "text: expected a string"),
        (b'{"role": "user"}', "expected a JSON object with `role` and `text`"),
        (b'"secret words', "expected a JSON object with `role` and `text`"),
        (b'{"role": "\xff"}', "expected a JSON object with `role` and `text`"),
        (b"[" * 5000, "expected a JSON object with `role` and `text`"),
    ],
)
def test_a_bad_context_is_refused_with_file_and_line_and_no_word_of_it(
    policy_file: Path, tmp_path: Path, line: bytes, sentence: str
) -> None:
    context = tmp_path / "context.jsonl"
    context.write_bytes(b'{"role": "user", "text": "hello"}\n' + line)
    error = failure("--policy", str(policy_file), "--context", str(context), "text")
    assert isinstance(error, UsageError)
    assert str(error) == f"{context}:2: {sentence}"


def test_the_start_of_vllm_is_told_though_nobody_is_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoVllm:
        identity = SimpleNamespace(engine="vllm")

        async def start(self) -> None:
            raise GuardError("no vLLM here")

    monkeypatch.setattr("workers.commands.judge.make_judge", lambda *_: NoVllm())
    with pytest.raises(GuardError):
        judge.main(["text"], standalone_mode=False)
    assert "starting vLLM" in capsys.readouterr().err


def test_servers_that_are_not_named_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "remote")
    error = failure("text")
    assert isinstance(error, SettingsError)
    assert "RSAFE_GUARD__ENDPOINTS: expected addresses such as http://host:8000" in str(error)


def test_an_absent_checkpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT", "/no/such/folder")
    error = failure("text")
    assert isinstance(error, GuardError)
    assert "/no/such/folder" in str(error)


def test_adaptive_says_which_way_it_went(tmp_path: Path) -> None:
    path = tmp_path / "adaptive.yaml"
    for band, way, steps in (("{low: 0, high: 0}", "fast", ["fast"]), ("{low: 0, high: 1}", "think", None)):
        path.write_text(POLICY + f"uncertain_band: {band}\n")
        arguments = ("--policy", str(path), "--mode", "adaptive", "meet me at the casino")
        report = json.loads(run(*arguments, "--json").stdout)
        assert (report["mode"], report["answered_in"]) == ("adaptive", way)
        assert [step["mode"] for step in report["steps"]] == (steps or ["fast", "think"])
        assert f"mode adaptive (answered in {way})" in run(*arguments).stdout


def test_adaptive_without_a_band_is_refused_before_anything_is_started(policy_file: Path) -> None:
    error = failure("--policy", str(policy_file), "--mode", "adaptive", "text")
    assert isinstance(error, SettingsError)
    assert "expected an `uncertain_band` in the policy, since the engine `scripted` runs no model" in str(
        error
    )
