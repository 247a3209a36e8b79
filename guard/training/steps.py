"""What each stage of a run does in its folder. Which stages there are, and from what, says `pipeline.py`.

Every step imports what it needs when it runs: a command that packages does not wait for TRL.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.errors import TrainingError
from guard.training.base_model import Base
from guard.training.recipe import section
from guard.training.run_log import Log
from guard.training.settings import ABLATIONS, ROWS_TASK, Recipe

MODEL: Final = "model"
"""Folder of a trained model within its stage."""
ROWS: Final = "rows"
"""Folder of the labelled rows within the stage `dataset`."""
TOKENIZER: Final = "tokenizer"
REPORT: Final = "report.json"
# Prompt marks of training are derived from it; serving has a secret of its own.
_SECRET: Final = b"training draws its own marks"
_SAMPLES: Final = 20


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """What a gate said."""

    passed: bool
    failed: list[str]
    """A line for each row that failed."""
    account: dict[str, Any]
    """All rows, for the manifest (JSON-ready)."""


def make_dataset(recipe: Recipe, base: Path | None, folder: Path) -> None:
    """Tokenizer and samples of a model from scratch; the labelled rows that the recipe asks for."""
    from guard.prompt import PromptRenderer, load_template
    from guard.training.package import write_dataset_sample

    template = load_template(recipe.template)

    def renderer(rows: Sequence[Any]) -> PromptRenderer:
        tokenizer = folder / TOKENIZER if base is None else base
        if base is None:
            _make_tokenizer(recipe, template, rows, tokenizer)
        return PromptRenderer(tokenizer, template, _SECRET)

    if base is None:
        (folder / "samples").mkdir(exist_ok=True, parents=True)
        write_dataset_sample(folder / "samples", _SAMPLES, recipe.seed)
    if recipe.data is not None:
        from guard.training.data.build import build_dataset

        build_dataset(section(recipe, "data"), renderer, folder / ROWS)
        _expect_rows(recipe, folder)
    elif base is None:
        renderer(())


def _make_tokenizer(recipe: Recipe, template: Any, rows: Sequence[Any], folder: Path) -> None:
    """The tokenizer of a model from scratch, of the generator's words or the rows'."""
    from guard.training import tokenizer as made

    if recipe.model.tokenizer == ROWS_TASK:
        from guard.training.row_words import tokenizer_of_rows

        tokenizer = tokenizer_of_rows(template, recipe.model.vocabulary, rows)
    else:
        texts = made.generator_texts(template, recipe.seed, prose=recipe.prose)
        tokenizer = made.train_tokenizer(template, recipe.model.vocabulary, texts)
    made.save_tokenizer(tokenizer, folder)
    end = {"eos_token_id": made.token_id(tokenizer, made.TURN_END)}
    (folder / "generation_config.json").write_text(json.dumps(end), encoding="utf-8")


def rows_line(dataset: Path) -> str:
    """What became of the labelled rows, in a line; from the data card."""
    from guard.training.data.data_card import CARD

    card = json.loads((dataset / ROWS / CARD).read_text(encoding="utf-8"))
    kept = (
        f"{name} {card[name]['safe']} safe and {card[name]['unsafe']} unsafe" for name in ("train", "dev")
    )
    dropped = ", ".join(f"{reason} {count}" for reason, count in card["dropped"].items()) or "none"
    return f"dataset: {', '.join(kept)}; dropped: {dropped}; {dataset.name}/{ROWS}/data_card.md"


def train_from_scratch(recipe: Recipe, dataset: Path, folder: Path, log: Log) -> None:
    """The stages of the recipe from random weights; `folder` gets `model`."""
    from guard.prompt import PromptRenderer, load_template
    from guard.training.export import export
    from guard.training.warm_start import warm_start

    tokenizer = dataset / TOKENIZER
    renderer = PromptRenderer(tokenizer, load_template(recipe.template), _SECRET)
    rows = None
    if recipe.draws_rows:
        from guard.training.row_trees import RowTrees

        rows = RowTrees(renderer, _training_rows(dataset), recipe.model.max_positions)
        log(rows.account())
    warm_start(recipe, renderer, folder / "stages", log, rows=rows)
    last = folder / "stages" / f"{recipe.stages[-1].name}.safetensors"
    export(recipe, tokenizer, last, folder / MODEL)


def take_base(recipe: Recipe, base: Base, folder: Path) -> None:
    """The base as it is, with the recipe's template: what is measured is what is packaged."""
    from guard.prompt import load_template
    from guard.training.base_model import copy_base
    from guard.training.weights import write_template

    copy_base(base, folder / MODEL)
    write_template(load_template(recipe.template), folder / MODEL)
    _expect_model(folder)


def train_supervised(recipe: Recipe, base: Path, dataset: Path, folder: Path, log: Log) -> None:
    """The base learns to answer in form, from the rows to train on; `folder` gets `model`."""
    from guard.training.supervised import run_supervised

    run_supervised(section(recipe, "warm_start"), base, _training_rows(dataset), folder, log)
    _expect_model(folder)


def train_reinforced(recipe: Recipe, model: Path, dataset: Path, folder: Path, log: Log) -> None:
    """Reinforced alignment of a model on the rows to train on; `folder` gets `model`."""
    from guard.training.grpo import run_grpo

    run_grpo(section(recipe, "grpo"), model, _training_rows(dataset), folder, log)
    _expect_model(folder)


def evaluation_settings(recipe: Recipe, ablation: str = "") -> Any:
    """How labelled rows are measured; `ablation` as a report calls it, or empty.

    None where the recipe has no rows and says nothing: then the generator's sets are measured, in both modes.
    """
    if recipe.evaluation is None and recipe.data is None and not ablation:
        return None
    settings = section(msgspec.structs.replace(recipe, evaluation=recipe.evaluation or {}), "evaluation")
    if not ablation:
        return settings
    # In one step: the struct checks that the two go together.
    modes = ("fast",) if ablation == ABLATIONS["reasoning"] else settings.modes
    return msgspec.structs.replace(settings, ablation=ablation, modes=modes)


def measure(
    recipe: Recipe,
    model: Path,
    dataset: Path | None,
    folder: Path,
    settings: Any,
    progress: Mapping[str, Path],
    log: Log,
    *,
    floor: bool,
) -> None:
    """The evaluation of a model; `folder` gets `report.json` and its page, and what calibration was fitted.

    Labelled rows of the split `dev` are measured where the recipe has some and `dataset` is given; with
    `floor`, what a classifier that reads no policy says of them stands beside. `progress`: learning curves,
    by stage.
    """
    from guard.training.evaluation import evaluate

    more: dict[str, Any] = {}
    if recipe.data is not None and dataset is not None:
        more["rows"] = _rows(dataset, "dev")
        if floor and more["rows"]:
            from guard.training.floor import CannotLearn, floor_replies

            with contextlib.suppress(CannotLearn):  # rows of one class have no floor
                more["floor"] = floor_replies(_rows(dataset, "train"), more["rows"], recipe.seed)
    rows, seed = recipe.evaluation_rows, recipe.evaluation_seed
    report = evaluate(model, rows, seed, folder, settings=settings, log=log, **more)
    _write_report(folder, report, progress)


def judge_gate(
    recipe: Recipe,
    challenger: Path,
    champion: Path | None,
    others: Mapping[str, Path],
    progress: Mapping[str, Path],
    folder: Path,
) -> None:
    """The gate over the reports of two evaluations; `folder` gets `gate.json` and `report.html`.

    `others`: further evaluations that the page shows, by name; `progress`: learning curves, by stage.
    """
    from guard.training.gate import run_gate
    from guard.training.report import Page, write_page

    found, against = read_report(challenger), None if champion is None else read_report(champion)
    result = run_gate(section(recipe, "gate"), found, against, folder)
    page = Page(
        challenger=found,
        champion=against,
        others={name: read_report(one) for name, one in others.items()},
        gate=result,
        progress=progress,
        name=f"rsafe-{recipe.name}",
    )
    write_page(folder, page)


def learning_curves(output: Path, made: Collection[str]) -> dict[str, Path]:
    """Stage of training → its records, of the stages `made`: others may be of another recipe."""
    places = {"warm-start": "warm-start/stages", "warm-start on rows": "warm-start", "grpo": "grpo"}
    found = {
        name: output / place / "progress.jsonl"
        for name, place in places.items()
        if place.partition("/")[0] in made
    }
    return {name: path for name, path in found.items() if path.is_file()}


def read_gate(folder: Path) -> GateOutcome:
    """What the gate said, from a stage that is done."""
    from guard.training.gate import RESULT, GateResult

    result = msgspec.json.decode((folder / RESULT).read_bytes(), type=GateResult)
    return GateOutcome(result.passed, [row.line() for row in result.failed], result.manifest())


def sign_checkpoint(folder: Path, key: Path) -> None:
    """Sign the manifest of a checkpoint with the private key in a file."""
    from guard.signature import sign

    sign(folder, key)


def copy_calibration(evaluation: Path, folder: Path) -> None:
    """What the evaluation fitted, and nothing that was there before."""
    from guard.checkpoint import CALIBRATION
    from guard.training.reliability import PICTURE

    for name in (CALIBRATION, PICTURE):
        (folder / name).unlink(missing_ok=True)
        if (evaluation / name).is_file():
            shutil.copyfile(evaluation / name, folder / name)


def read_report(evaluation: Path) -> dict[str, Any]:
    """The report of an evaluation that is done."""
    report: dict[str, Any] = json.loads((evaluation / REPORT).read_text(encoding="utf-8"))
    return report


def _write_report(folder: Path, report: dict[str, Any], progress: Mapping[str, Path]) -> None:
    from guard.training.report import Page, write_page, write_report

    write_report(folder, report)
    write_page(folder, Page(challenger=report, progress=progress))


def _rows(dataset: Path, split: str) -> list[Any]:
    from guard.training.data.rows import read_rows

    return [row for row in read_rows(dataset / ROWS) if row.split == split]


def _training_rows(dataset: Path) -> list[Any]:
    rows = _rows(dataset, "train")
    if not rows:
        raise TrainingError(f"{dataset / ROWS}: found no row of the split train; expected one or more")
    return rows


def _expect_rows(recipe: Recipe, dataset: Path) -> None:
    """The rows that later stages read: found missing now, and not after all training."""
    if recipe.warm_start is not None or recipe.grpo is not None or recipe.draws_rows:
        _training_rows(dataset)
    floors = () if recipe.gate is None else section(recipe, "gate").floors
    asked = next((floor.suite for floor in floors if floor.suite.startswith("real/")), "")
    if asked and not _rows(dataset, "dev"):
        raise TrainingError(
            f"{dataset / ROWS}: found no row of the split dev; expected one or more, since the gate has a "
            f"floor of the suite {asked}"
        )


def _expect_model(folder: Path) -> None:
    if not (folder / MODEL / "config.json").is_file():
        raise TrainingError(f"{folder / MODEL}: found no config.json; expected the trained model")
