"""`rsafe rederive` over the scripted engine: what it shows, what it refuses, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from guard.checkpoint import open_checkpoint
from guard.serving.question import MODES
from schemas.decision import Decision
from schemas.identifiers import Mode
from schemas.policy import Band
from tests.unit.workers.moderation.builders import make_event, make_policy, make_turn
from tests.unit.workers.moderation.guard_world import GuardWorld, decision_of, event_record
from workers.commands.rederive import EXIT_DIFFERS, rederive
from workers.errors import SettingsError, UsageError
from workers.judging import prompt_secret
from workers.rederive import NotOfDecision

EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "conversation_id": "c-1",
    "text": "meet me at the casino",
    "context": (make_turn("hello", "assistant"),),
}
LIMITS = {"max_model_len": 300, "think_budget_tokens": 50, "answer_tokens": 24, "category_scores": True}
# The scripted engine's scores of unsafe messages are above 0.5.
BANDS = {"adaptive": Band(low=0.0, high=0.5)}

Files = tuple[str, str, str]


@pytest.fixture(autouse=True)
def scripted_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "scripted")
    monkeypatch.setenv("RSAFE_SECRETS__CONTENT_KEY", "key")


async def decided(event: dict[str, Any], mode: Any) -> Decision:
    """What a worker with the same key, and limits of its own, decides."""
    checkpoint = open_checkpoint("tiny")
    world = GuardWorld(
        checkpoint,
        make_policy(id="house", mode=mode, uncertain_band=BANDS.get(mode)),
        judge_limits=LIMITS,
        secret=prompt_secret(b"key"),
        cache=False,
    )
    await world.judge.start()
    try:
        (publication,) = await world.run(event_record(1, policy="house", **event))
    finally:
        await world.close()
    return decision_of(publication)


Write = Callable[..., Files]


@pytest.fixture
async def write(tmp_path: Path) -> Write:
    """Writes decision, event and policy; the decision with changes."""
    made = {mode: await decided(EVENT, mode) for mode in MODES}

    def to_files(mode: Mode = "think", event: dict[str, Any] | None = None, **changes: Any) -> Files:
        decision = msgspec.structs.replace(made[mode], **changes)
        policy = msgspec.to_builtins(make_policy(id="house", mode=mode, uncertain_band=BANDS.get(mode)))
        (tmp_path / "decision.json").write_bytes(msgspec.json.encode(decision) + b"\n")
        (tmp_path / "event.json").write_bytes(msgspec.json.encode(make_event(**EVENT | (event or {}))))
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(_present(policy)))
        return str(tmp_path / "decision.json"), str(tmp_path / "event.json"), str(tmp_path / "policy.yaml")

    return to_files


def _present(value: Any) -> Any:
    """Without what is absent, which a policy file leaves out."""
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list | tuple) else value


def run(files: Files, *options: str) -> Result:
    decision, event, policy = files
    return CliRunner().invoke(rederive, [decision, event, "--policy", policy, *options])


@pytest.mark.parametrize("mode", MODES)
def test_a_decision_agrees_with_itself(write: Write, mode: Mode) -> None:
    result = run(write(mode), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["agrees"]
    fields = {"status", "label", "answered_in", "raw_score", "codes", "windows", "turns_left_out", "action"}
    assert fields == {*report["compared"]}
    (prompt,) = report["prompts"]
    assert len(prompt["sha256"]) == 64
    assert report["compared"]["raw_score"]["then"] == pytest.approx(
        report["compared"]["raw_score"]["now"], abs=1e-6
    )


def test_what_differs_is_named_and_ends_with_an_exit_code_of_its_own(write: Write) -> None:
    label = json.loads(run(write(), "--json").stdout)["compared"]["label"]["now"]
    result = run(write(label="safe" if label == "unsafe" else "unsafe", score=0.99))
    assert result.exit_code == EXIT_DIFFERS
    shown = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "DIFFERS" in shown["label"]
    assert "DIFFERS" in shown["raw_score"]
    assert "agrees" in shown["codes"]


def test_scores_within_the_tolerance_agree(write: Write) -> None:
    score = json.loads(run(write(), "--json").stdout)["compared"]["raw_score"]["now"]
    files = write(score=score + 0.02)
    assert run(files).exit_code == EXIT_DIFFERS
    assert run(files, "--tolerance", "0.03").exit_code == 0


def test_the_prompt_alone_needs_no_engine(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads(run(write(), "--json").stdout)
    monkeypatch.setattr("workers.commands.rederive.make_judge", None)
    result = run(write(), "--prompt-only")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    (prompt,) = whole["prompts"]
    assert line == f"prompt      {prompt['tokens']} tokens, SHA-256 {prompt['sha256']}"


def test_no_text_is_shown(write: Write) -> None:
    for options in ((), ("--json",), ("--prompt-only",)):
        assert "casino" not in run(write(), *options).output


def test_another_event_is_refused_by_the_field(write: Write) -> None:
    error = run(write(event={"text": "meet me at the station"})).exception
    assert isinstance(error, NotOfDecision)
    assert str(error).startswith("content_mac: ")
    assert "station" not in str(error)


def test_the_policy_is_looked_for_among_the_loaded_ones_unless_it_is_given(write: Write) -> None:
    decision, event, _ = write()
    error = CliRunner().invoke(rederive, [decision, event]).exception
    assert isinstance(error, NotOfDecision)
    assert str(error).startswith("policy.policy_hash: ")


def test_another_engine_is_refused_before_it_is_started(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write()
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "vllm")
    error = run(files).exception
    assert isinstance(error, NotOfDecision)
    assert str(error) == "guard.engine: this guard has 'vllm'; expected 'scripted'"
    assert run(files, "--prompt-only").exit_code == 0


def test_files_that_hold_something_else_are_refused_without_being_quoted(
    write: Write, tmp_path: Path
) -> None:
    decision, event, policy = write()
    for content in ('{"status": "secret words"}', "secret words"):
        Path(decision).write_text(content)
        error = run((decision, event, policy)).exception
        assert isinstance(error, UsageError)
        assert "expected a decision" in str(error)
        assert "secret" not in str(error)
    decision, event, policy = write()
    Path(event).write_text('{"event_id": 7}')
    error = run((decision, event, policy)).exception
    assert isinstance(error, UsageError)
    assert "$.event_id" in str(error)
    assert not isinstance(error, SettingsError)
