"""Measures a checkpoint through the engine and the judge that serve it, in both modes.

Answers that do not parse count as errors: RSafe's own evaluation dropped them from its scores. What is asked
is the generator's sets, attacks, rows to fit a calibration on, and labelled rows of real sources. Each set
of answers is kept in a file, so that a run that was cut off goes on where it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from guard.calibration import Calibration, decode_calibration
from guard.checkpoint import CALIBRATION, Checkpoint, open_checkpoint
from guard.prompt import as_read
from guard.serving.assembly import EngineName, build_judge
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_start import VllmOptions
from guard.training.asked_rows import Asked, AttackedRow, measured_rows_of
from guard.training.attack_evaluation import forged_endings, measure_attacks
from guard.training.attacks.attack import Attack
from guard.training.calibrate import add_calibration, calibrate
from guard.training.calibration_split import draw_split, in_first_half, labelled_data, rows_digest
from guard.training.data.rows import LabelledRow
from guard.training.evaluation_settings import EvaluationSettings, MeasuredMode
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.judged_rows import JudgedRow, judged_labelled, judged_rows
from guard.training.measured_rows import Reply
from guard.training.outcomes import keep, place_of, recall
from guard.training.run_log import Log
from guard.training.suite_report import suite_report
from guard.training.suites import chosen_rows, policy_of
from guard.training.synthetic_figures import report_of
from schemas.identifiers import Label
from schemas.verdict import Unjudged, Verdict

_CONCURRENT = 128
# Prompt marks are derived from this key in evaluation; any key gives other marks and the same task.
_SECRET = b"evaluation"


class Outcome(msgspec.Struct, frozen=True):
    """What came of one row in one mode."""

    label: Label | None
    """None: no verdict."""
    codes: tuple[str, ...] = ()
    score: float | None = None
    reason: str = ""
    completions: tuple[int, ...] = ()
    """Tokens of each call's completion."""


class _Questions:
    """Asks the judge, which is started when the first answer is not kept yet."""

    def __init__(self, judge: Judge, folder: Path, modes: Sequence[MeasuredMode], log: Log) -> None:
        self._judge = judge
        self._log = log
        self._folder = folder / "outcomes"
        self.seconds = dict.fromkeys(modes, 0.0)

    async def ask(
        self, name: str, rows: Sequence[Row] | Sequence[LabelledRow], mode: MeasuredMode
    ) -> list[Outcome]:
        """One outcome a row, in order, from the file of that name where these rows were asked before."""
        place = place_of(self._folder, name, rows_digest({name: rows}))
        known, what = recall(place, list[Outcome]), f"evaluation: {name}: {len(rows)} rows"
        if known is not None:
            self._log(f"{what}, asked before")
        else:
            await self._judge.start()
            self._log(what)
            started = time.monotonic()
            known = await judge_rows(self._judge, rows, mode), round(time.monotonic() - started, 2)
            keep(place, *known)
            self._log(f"{what} in {known[1]:.1f} s")
        found, took = known
        self.seconds[mode] = round(self.seconds[mode] + took, 1)
        return found


def _unheard(line: str) -> None:
    """Where nobody wants to know how far it is."""


async def judge_rows(
    judge: Judge, rows: Sequence[Row] | Sequence[LabelledRow], mode: MeasuredMode
) -> list[Outcome]:
    """One outcome a row, in order."""
    places = asyncio.Semaphore(_CONCURRENT)

    async def one(row: Row | LabelledRow) -> Outcome:
        async with places:
            return _outcome(await judge.judge(_question(row, mode)))

    return list(await asyncio.gather(*(one(row) for row in rows)))


def evaluate(
    checkpoint: Path,
    count: int,
    seed: int,
    folder: Path,
    *,
    settings: EvaluationSettings | None = None,
    rows: Sequence[LabelledRow] = (),
    floor: Mapping[str, Reply] | None = None,
    engine: EngineName = "vllm",
    log: Log = _unheard,
) -> dict[str, Any]:
    """The whole report, JSON-ready: sets, suites, attacks, calibration, and whether bars are met.

    `count` and `seed` draw the generator's sets; `rows` are labelled rows that training did not see, and
    `floor` says what the classifier of `guard.training.floor` says of them, by id. `folder` gets the
    calibration and its picture, and `outcomes`, from which a run that was cut off goes on. `log` gets a line
    before and after each set of rows: its name, how many rows, and the seconds.
    """
    return asyncio.run(
        _evaluate(
            checkpoint, count, seed, folder, settings or EvaluationSettings(), rows, floor or {}, engine, log
        )
    )


async def _evaluate(
    path: Path,
    count: int,
    seed: int,
    folder: Path,
    settings: EvaluationSettings,
    rows: Sequence[LabelledRow],
    floor: Mapping[str, Reply],
    engine: EngineName,
    log: Log,
) -> dict[str, Any]:
    checkpoint = open_checkpoint(str(path))
    length = checkpoint.max_model_len
    # The budget that serving has by default: the calibration is one of these rationales.
    limits = JudgeLimits(max_model_len=length, call_timeout_s=600.0)
    options = VllmOptions(max_model_len=length)
    judge = build_judge(engine, checkpoint, secret=_SECRET, limits=limits, options=options)
    questions = _Questions(judge, folder, settings.modes, log)
    report: dict[str, Any] = {"attacks": {}}
    try:
        found = await _ask_all(questions, count, seed, settings, rows, report)
    finally:
        await judge.close()
    report = report_of(found.sets, found.held_out, seed) | report
    report.update(rows=count, seed=seed, seconds=questions.seconds, weights_digest=checkpoint.weights_digest)
    report.update(engine=f"{judge.identity.engine} {judge.identity.engine_version}", calibration=_NONE)
    crossed: dict[str, Calibration] = {}
    if settings.calibrates:
        on_labelled = _on_labelled(found.sources, settings)
        crossed = _calibrate(report, folder, checkpoint, found, limits, on_labelled=on_labelled)
    measured = measured_rows_of(found, settings, _calibration_in(folder, settings), floor, crossed)
    report["settings"] = msgspec.json.decode(msgspec.json.encode(settings))
    return report | suite_report(measured, settings.draws, seed)


_NONE: dict[str, Any] = {"data": {}, "chosen": {}, "modes": {}}
"""The calibration of a report without one."""


async def _ask_all(
    questions: _Questions,
    count: int,
    seed: int,
    settings: EvaluationSettings,
    rows: Sequence[LabelledRow],
    report: dict[str, Any],
) -> Asked:
    """Everything that is asked; the figures of the attacks go into the report."""
    sets = evaluation_sets(count, seed)
    split = draw_split(sets, count, seed)
    found = Asked(sets, split, chosen_rows(rows, settings))
    for mode in settings.modes:
        held_out = {
            name: await questions.ask(f"held-out-{mode}-{name}", drawn, mode) for name, drawn in sets.items()
        }
        found.held_out[mode] = held_out
        if settings.calibrates and not _on_labelled(found.sources, settings):
            found.fit[mode] = {
                name: await questions.ask(f"fit-{mode}-{name}", drawn, mode)
                for name, drawn in split.fit.items()
            }
        found.real[mode] = {
            name: await questions.ask(f"real-{mode}-{name}", drawn, mode)
            for name, drawn in found.sources.items()
        }
        figures, found.attacked[mode] = await _attack(questions, sets["pairs/on"], held_out, mode, seed)
        report["attacks"][mode] = figures
    return found


def _on_labelled(sources: Mapping[str, Sequence[LabelledRow]], settings: EvaluationSettings) -> bool:
    return settings.calibrate_on == "labelled" and any(sources.values())


async def _attack(
    questions: _Questions,
    rows: Sequence[Row],
    held_out: Mapping[str, Sequence[Outcome]],
    mode: MeasuredMode,
    seed: int,
) -> tuple[dict[str, Any], list[AttackedRow]]:
    """Flip rates of the unsafe rows of the pairs (attack → figures), and every row under an attack."""
    attacked: list[AttackedRow] = []

    async def ask(name: str, drawn: Sequence[Row]) -> list[Outcome]:
        return await questions.ask(f"attack-{mode}-{name}", drawn, mode)

    def seen(attack: Attack, number: int, row: Row, outcome: Outcome) -> None:
        attacked.append((attack, number, row, outcome))

    before = held_out["pairs/on"]
    measured = await measure_attacks(ask, rows, before, seed, seen=seen)
    return forged_endings(before, held_out["attacked"]) | measured, attacked


def _calibrate(
    report: dict[str, Any],
    folder: Path,
    checkpoint: Checkpoint,
    found: Asked,
    limits: JudgeLimits,
    *,
    on_labelled: bool,
) -> dict[str, Calibration]:
    """Fit, write and measure; what to read the scores of rows with that the fit saw, by id."""
    seed, budget = report["seed"], limits.think_budget_tokens
    if not on_labelled:
        add_calibration(
            report,
            folder,
            checkpoint,
            fit=judged_rows(found.split.fit, found.fit),
            held_out=judged_rows(found.split.held_out, found.held_out),
            data=found.split.data,
            think_budget_tokens=budget,
        )
        return {}
    fit, held_out = _halves(found, seed)
    how: dict[str, Any] = {"data": labelled_data(found.sources, seed), "think_budget_tokens": budget}
    add_calibration(report, folder, checkpoint, fit=fit, held_out=held_out, **how)
    other, _ = calibrate(checkpoint, report["engine"], held_out, seed=seed, **how)
    seen = (row.id for rows in found.sources.values() for row in rows if in_first_half(row, seed))
    return {} if other is None else dict.fromkeys(seen, other)


def _halves(found: Asked, seed: int) -> tuple[list[JudgedRow], list[JudgedRow]]:
    """The labelled rows, parted by their groups."""
    fit: list[JudgedRow] = []
    held_out: list[JudgedRow] = []
    for name, rows in found.sources.items():
        judged = judged_labelled(rows, {mode: outcomes[name] for mode, outcomes in found.real.items()})
        for row, one in zip(rows, judged, strict=True):
            (fit if in_first_half(row, seed) else held_out).append(one)
    return fit, held_out


def _calibration_in(folder: Path, settings: EvaluationSettings) -> Calibration | None:
    """What was fitted in this run; None where the scores could not be calibrated."""
    path = folder / CALIBRATION
    if not settings.calibrates or not path.is_file():
        return None
    return decode_calibration(path.read_bytes(), str(path))


def _question(row: Row | LabelledRow, mode: MeasuredMode) -> Question:
    """As serving asks it: the texts normalised."""
    if isinstance(row, LabelledRow):
        return Question(policy=row.policy, turns=as_read(row.turns), mode=mode)
    return Question(policy=policy_of(row), turns=as_read(row.exchange.turns), mode=mode)


def _outcome(judged: Verdict | Unjudged) -> Outcome:
    completions = tuple(step.completion_tokens for step in judged.steps)
    if isinstance(judged, Unjudged):
        # What an engine says of its failure is no stable word: it may name places, times and sizes.
        reason = judged.reason if judged.reason == "engine_failed" else judged.detail or judged.reason
        return Outcome(None, reason=reason, completions=completions)
    return Outcome(judged.label, judged.codes, judged.score, completions=completions)
