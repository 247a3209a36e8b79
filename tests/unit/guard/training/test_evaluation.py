"""The whole evaluation through the shipped scripted engine: what a report holds, and that it goes on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from guard.calibration import decode_calibration
from guard.checkpoint import open_checkpoint
from guard.prompt import PromptRenderer, Turn
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.scripted_engine import ScriptedEngine
from guard.training import evaluation
from guard.training.attacks.corpus import ATTACKS
from guard.training.calibration_split import in_first_half
from guard.training.data.rows import LabelledRow
from guard.training.evaluation import Outcome, evaluate, judge_rows
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.floor import floor_replies
from guard.training.gate import run_gate
from guard.training.gate_settings import Drop, Floor, GateSettings
from guard.training.measured_rows import by_suite, rows_of
from guard.training.report import Page, write_page, write_report
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged
from tests.model_folders import write_bare_folder

POLICY = Policy(
    id="p", version="1", categories=(Category(code="C1", title="Gambling", definition="casino; betting"),)
)
SECRET_WORD = "xylophonist"


def real(number: int, source: str, label: str, split: str = "dev") -> LabelledRow:
    return LabelledRow(
        id=f"{source}-{number}",
        source=source,
        split="train" if split == "train" else "dev",
        group=f"{source}-{number // 2}",
        policy=POLICY,
        turns=(Turn(role="user", text=f"{SECRET_WORD} {label} {source} number {number}"),),
        label="unsafe" if label == "unsafe" else "safe",
    )


DEV = [real(n, "forum", "unsafe" if n % 2 else "safe") for n in range(8)]
DEV += [real(n, "dolly_sensitive", "safe") for n in range(4)]
TRAIN = [real(100 + n, "forum", "unsafe" if n % 2 else "safe", "train") for n in range(20)]
SETTINGS = EvaluationSettings(least_rows_of_language=5, draws=100)


def evaluated(folder: Path) -> dict[str, Any]:
    floor = floor_replies(TRAIN, DEV)
    tiny = open_checkpoint("tiny").path
    return evaluate(tiny, 4, 7, folder, settings=SETTINGS, rows=DEV, floor=floor, engine="scripted")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    return evaluated(folder)


def test_a_report_has_what_it_had_and_the_suites_beside(report: dict[str, Any]) -> None:
    assert set(report["modes"]) == set(report["attacks"]) == {"think", "fast"}
    assert report["engine"] == "scripted 1"
    assert {bar["figure"] for bar in report["bars"]} >= {"parse", "pairs", "f1", "ece"}
    assert set(report["suites"]) == {"think", "fast", "floor"}
    suites = set(report["suites"]["think"])
    for expected in ("synthetic/both", "flips/held_out", "custom/themes", "over_refusal/near_misses"):
        assert expected in suites
    assert {f"attacks/{attack.name}" for attack in ATTACKS if attack.measured} <= suites
    assert {"real/forum", "real/all", "real/macro", "language/en", "over_refusal/real"} <= suites
    assert set(report["suites"]["floor"]) == {
        name for name in suites if name.startswith(("real/", "language/")) or name == "over_refusal/real"
    }
    assert report["suites"]["think"]["real/dolly_sensitive"]["n"] == 4


def test_every_row_stands_once_with_what_both_modes_said(report: dict[str, Any]) -> None:
    rows = rows_of(report)
    suites = by_suite(rows)
    assert {row.id for row in suites["real/all"]} == {row.id for row in DEV}
    assert len(suites["synthetic/held_out"]) == 12
    assert all({"think", "fast"} <= set(row.replies) for row in rows)
    assert all("floor" in row.replies for row in suites["real/all"])
    pairs = report["suites"]["fast"]["flips/in_distribution"]
    assert (pairs["n"], pairs["groups"]) == (8, 4)
    assert pairs["figures"]["pairs"]["value"] == report["modes"]["fast"]["pairs"]["pairs"]["value"]
    attacked = [row for row in rows if "attacks/judgement" in row.suites]
    assert attacked
    assert {row.group.partition("/")[0] for row in attacked} == {"pairs"}


def test_no_text_is_in_the_report_the_page_or_the_kept_files(report: dict[str, Any], folder: Path) -> None:
    write_report(folder, report)
    write_page(folder, Page(report))
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET_WORD not in path.read_text(encoding="utf-8")
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report


def test_what_is_kept_is_not_asked_again(
    report: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(evaluation, "judge_rows", refuse)
    again = evaluated(folder)
    assert again == report


def test_a_report_goes_through_the_gate_against_itself(report: dict[str, Any], tmp_path: Path) -> None:
    settings = GateSettings(floors=(), drops=(Drop(suite="*", misses=0.0, over_refusals=0.0),))
    result = run_gate(settings, report, report, tmp_path)
    assert result.passed
    assert {row.suite for row in result.rows} == set(report["suites"]["think"]) - {"real/macro"}
    strict = GateSettings(floors=(Floor(suite="flips/*", figure="pairs", least=0.99),), drops=())
    assert {row.suite for row in run_gate(strict, report, None, tmp_path).failed} >= {"flips/held_out"}


def test_the_ablation_without_reasoning_measures_fast_alone_and_fits_no_calibration(tmp_path: Path) -> None:
    settings = EvaluationSettings(ablation="without reasoning", modes=("fast",), draws=100)
    report = evaluate(open_checkpoint("tiny").path, 2, 7, tmp_path, settings=settings, engine="scripted")
    assert set(report["modes"]) == set(report["suites"]) == set(report["attacks"]) == {"fast"}
    assert report["calibration"] == {"data": {}, "chosen": {}, "modes": {}}
    assert {bar["mode"] for bar in report["bars"]} == {"fast"}
    assert report["settings"]["ablation"] == "without reasoning"
    assert not (tmp_path / "calibration.json").exists()


def test_a_failed_engine_is_a_stable_word() -> None:
    failed = Unjudged(reason="engine_failed", detail="http://10.0.0.1: refused after 3.14 s")
    assert evaluation._outcome(failed).reason == "engine_failed"
    assert evaluation._outcome(Unjudged(reason="unparseable", detail="no_box")).reason == "no_box"


async def test_rows_are_asked_as_serving_asks_them_normalised(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_bare_folder(tmp_path)), template="rsafe-compact-1", weights=False)
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"s")
    prompts: list[tuple[int, ...]] = []

    def completion(prompt: tuple[int, ...]) -> str:
        prompts.append(prompt)
        return " no.</think>\n\\boxed{safe}"

    judge = Judge(
        checkpoint, renderer, ScriptedEngine(renderer, completion=completion), JudgeLimits(max_model_len=1024)
    )
    await judge.start()
    plain, hidden = real(1, "forum", "safe"), real(1, "forum", "safe")
    hidden = LabelledRow(
        **{f: getattr(hidden, f) for f in hidden.__struct_fields__}
        | {"turns": (Turn(role="user", text=plain.turns[0].text.replace("number", "num\u200bber")),)}
    )
    outcomes = await judge_rows(judge, [plain, hidden], "think")
    assert prompts[0] == prompts[1]
    assert [one.label for one in outcomes] == ["safe", "safe"]


def test_every_set_of_rows_is_told_of_before_and_after_without_its_text(tmp_path: Path) -> None:
    settings = EvaluationSettings(ablation="without reasoning", modes=("fast",), draws=100)
    lines: list[str] = []

    def run() -> None:
        tiny = open_checkpoint("tiny").path
        evaluate(tiny, 2, 7, tmp_path, settings=settings, rows=DEV, engine="scripted", log=lines.append)

    run()
    begun = [line for line in lines if line.endswith(" rows")]
    assert "evaluation: real-fast-forum: 8 rows" in begun
    assert [line.rpartition(" in ")[0] for line in lines[1::2]] == begun == lines[::2]
    assert SECRET_WORD not in "".join(lines)
    lines.clear()
    run()
    assert lines == [f"{line}, asked before" for line in begun]


def test_with_labelled_rows_enough_the_calibration_is_fitted_on_half_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, rng = evaluation.judge_rows, random.Random(3)

    async def knows(judge: Any, rows: Any, mode: Any) -> list[Outcome]:
        """Of real rows the truth, four times in five."""
        if not rows or not isinstance(rows[0], LabelledRow):
            return await ask(judge, rows, mode)
        said = [(row.label == "unsafe") == (rng.random() < 0.8) for row in rows]
        return [
            Outcome("unsafe" if unsafe else "safe", score=0.5 + (unsafe - 0.5) * rng.random())
            for unsafe in said
        ]

    monkeypatch.setattr(evaluation, "judge_rows", knows)
    rows = [real(n, "forum", "unsafe" if n % 4 < 2 else "safe") for n in range(1000)]
    tiny = open_checkpoint("tiny").path
    settings = EvaluationSettings(draws=100)
    report = evaluate(tiny, 2, 7, tmp_path, settings=settings, rows=rows, engine="scripted")
    data = report["calibration"]["data"]
    assert data["name"].startswith("half of the labelled rows of 1 sources")
    assert 400 < data["rows"] < 600
    assert report["calibration"]["modes"]["fast"]["groups"]["all"]["n"] == 1000 - data["rows"]
    # A row of the fit is read by the fit of the other half: equal raw scores differ by their half.
    written = decode_calibration((tmp_path / "calibration.json").read_bytes(), "calibration.json")
    curve = written.modes["fast"].curve("user")
    away: dict[bool, list[float]] = {True: [], False: []}
    for one in rows_of(report):
        if "real/forum" in one.suites:
            reply = one.replies["fast"]
            assert reply.score is not None
            assert reply.calibrated is not None
            fitted = in_first_half(rows[int(one.id.rpartition("-")[2])], 7)
            away[fitted].append(abs(curve.score(reply.score) - reply.calibrated))
    assert max(away[False]) < 1e-4
    assert min(away[True]) > 1e-4


def test_the_generators_rows_calibrate_where_the_recipe_says_so(tmp_path: Path) -> None:
    settings = EvaluationSettings(draws=100, calibrate_on="generator")
    tiny = open_checkpoint("tiny").path
    report = evaluate(tiny, 2, 7, tmp_path, settings=settings, rows=DEV, engine="scripted")
    assert "generator" in report["calibration"]["data"]["name"]
