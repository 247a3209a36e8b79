"""`rsafe train`: data set, warm start, evaluation, package. Each stage writes its folder whole or not at all.

A stage whose folder is there, made from the same inputs, is skipped; other inputs make it anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from guard.training.settings import RECIPES, Recipe

_INPUT = "input.json"
# Named in input.json; raise it when the code of a stage changes what it writes.
_CODE_VERSION = 1
# The same for what an evaluation measures and fits.
_EVALUATION_VERSION = 2

recipe_option = click.option(
    "--recipe", "recipe_name", type=click.Choice(sorted(RECIPES)), default="tiny", show_default=True,
    help="What to train; `smoke` runs every stage for a few steps.",
)  # fmt: skip
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("training"),
    show_default=True,
    help="Folder for all stages.",
)


checkpoint_option = click.option(
    "--checkpoint",
    help="A packaged checkpoint of the recipe, as a folder or a shipped name, instead of training one.",
)


@click.group()
def train() -> None:
    """Make and measure a checkpoint."""


@train.command()
@recipe_option
@output_option
def dataset(recipe_name: str, output: Path) -> None:
    """Tokenizer, and the evaluation sets as JSON lines to read; training data is drawn as it is used."""
    _dataset(RECIPES[recipe_name], output)


@train.command("warm-start")
@recipe_option
@output_option
def warm_start_command(recipe_name: str, output: Path) -> None:
    """Train from random weights; a run that was cut off goes on at the next stage of the recipe.

    Runs `dataset` before it when that is missing or its inputs changed.
    """
    _warm_start(RECIPES[recipe_name], output)


@train.command()
@recipe_option
@output_option
@checkpoint_option
def evaluate(recipe_name: str, output: Path, checkpoint: str | None) -> None:
    """Measure the weights through vLLM, in both modes: sets of rows, how often attacks succeed, and what
    scores are worth; fit the calibration of the scores.

    Runs `dataset` and `warm-start` before it when they are missing or their inputs changed, unless
    `--checkpoint` names what to measure. A run that was cut off goes on at the next set of rows.
    """
    _evaluate(RECIPES[recipe_name], output, checkpoint)


@train.command()
@recipe_option
@output_option
@checkpoint_option
def package(recipe_name: str, output: Path, checkpoint: str | None) -> None:
    """Calibration, model card and manifest: the checkpoint folder is `<output>/checkpoint`.

    Runs the stages before it, training included, when they are missing or their inputs changed. With
    `--checkpoint` the same weights are measured and packaged anew.
    """
    _package(RECIPES[recipe_name], output, checkpoint)


@train.command()
@recipe_option
@output_option
def run(recipe_name: str, output: Path) -> None:
    """All stages in order; those that are there, made from the same inputs, are skipped."""
    _package(RECIPES[recipe_name], output)


def stage_folder(folder: Path, inputs: dict[str, Any], make: Callable[[Path], None]) -> bool:
    """Make `folder` with `make` unless it was made from the same inputs; True when it was made now.

    `make` writes to `<folder>.partial`, which is kept when it fails, so that it can go on there.
    """
    wanted = json.dumps(inputs, sort_keys=True)
    done = folder / _INPUT
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        click.echo(f"{folder.name}: already there", err=True)
        return False
    partial = folder.with_name(folder.name + ".partial")
    begun = partial / _INPUT
    if not (begun.is_file() and begun.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        begun.write_text(wanted, encoding="utf-8")
    click.echo(f"{folder.name}: started", err=True)
    make(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


def _inputs(recipe: Recipe, **more: Any) -> dict[str, Any]:
    from guard.training.package import data_hash

    return {"code": _CODE_VERSION, "recipe": msgspec.to_builtins(recipe), "data": data_hash(recipe), **more}


def _dataset(recipe: Recipe, output: Path) -> Path:
    from guard.prompt import load_template
    from guard.training.package import write_dataset_sample
    from guard.training.tokenizer import TURN_END, save_tokenizer, token_id, train_tokenizer

    def make(folder: Path) -> None:
        tokenizer = train_tokenizer(load_template(recipe.template), recipe.model.vocabulary, recipe.seed)
        save_tokenizer(tokenizer, folder / "tokenizer")
        end = {"eos_token_id": token_id(tokenizer, TURN_END)}
        (folder / "tokenizer" / "generation_config.json").write_text(json.dumps(end), encoding="utf-8")
        (folder / "samples").mkdir(exist_ok=True)
        write_dataset_sample(folder / "samples", 20, recipe.seed)

    stage_folder(output / "dataset", _inputs(recipe), make)
    return output / "dataset"


def _warm_start(recipe: Recipe, output: Path) -> Path:
    from guard.prompt import PromptRenderer, load_template
    from guard.training.package import export
    from guard.training.warm_start import warm_start

    data = _dataset(recipe, output)

    def make(folder: Path) -> None:
        renderer = PromptRenderer(
            data / "tokenizer", load_template(recipe.template), b"training draws its own marks"
        )
        warm_start(recipe, renderer, folder / "stages", lambda line: click.echo(line, err=True))
        last = folder / "stages" / f"{recipe.stages[-1].name}.safetensors"
        export(recipe, data / "tokenizer", last, folder / "model")

    stage_folder(output / "warm-start", _inputs(recipe), make)
    return output / "warm-start"


def _evaluate(recipe: Recipe, output: Path, checkpoint: str | None = None) -> dict[str, Any]:
    _require_extra()
    from guard.checkpoint import open_checkpoint
    from guard.training.attack_evaluation import lines
    from guard.training.evaluation import evaluate

    model = open_checkpoint(checkpoint).path if checkpoint else _warm_start(recipe, output) / "model"

    def make(folder: Path) -> None:
        report = evaluate(model, recipe.evaluation_rows, recipe.evaluation_seed, folder)
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")

    inputs = _inputs(recipe, weights=_digest(model), evaluation=_EVALUATION_VERSION)
    if checkpoint:
        weights = open_checkpoint(checkpoint).weights_digest
        inputs = {"checkpoint": weights, "recipe": recipe.name, "evaluation": _EVALUATION_VERSION}
    stage_folder(output / "evaluation", inputs, make)
    report: dict[str, Any] = json.loads((output / "evaluation" / "report.json").read_text(encoding="utf-8"))
    for bar in report["bars"]:
        word = "reached" if bar["met"] else "MISSED"
        wanted = f"{bar['least']:.2f}" if "least" in bar else f"at most {bar['most']:.2f}"
        click.echo(f"{bar['mode']:6} {bar['figure']:22} {bar['value']:.4f}  wanted {wanted}  {word}")
    for line in lines(report):
        click.echo(line)
    return report


def _require_extra() -> None:
    """Before anything that takes long. Raises `click.ClickException`."""
    for module in ("matplotlib", "sklearn"):
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f"expected {module}, which the extra `train` brings; not installed")


def _package(recipe: Recipe, output: Path, checkpoint: str | None = None) -> None:
    if checkpoint:
        _package_anew(recipe, output, checkpoint)
        return
    from guard.training.generator.lexicon import CONCEPTS
    from guard.training.package import COMMAND, package, parameter_count

    report = _evaluate(recipe, output)
    trained = output / "warm-start"
    seconds = _seconds(trained / "stages" / "progress.jsonl")
    training = {
        "parameters": parameter_count(recipe),
        "concepts": len(CONCEPTS),
        "made_in": f"{seconds / 60:.0f} minutes on {recipe.threads} CPU cores",
    }

    def make(folder: Path) -> None:
        shutil.copytree(trained / "model", folder, dirs_exist_ok=True)
        (folder / _INPUT).unlink()
        _copy_calibration(output / "evaluation", folder)
        package(recipe, folder, report, command=COMMAND.format(recipe=recipe.name), training=training)
        (folder / _INPUT).touch()

    folder = output / "checkpoint"
    stage_folder(folder, _inputs(recipe, evaluation=_digest(output / "evaluation")), make)
    (folder / _INPUT).unlink(missing_ok=True)
    click.echo(f"checkpoint: {folder}")


def _package_anew(recipe: Recipe, output: Path, checkpoint: str) -> None:
    """The same weights with new figures; what the old manifest says of the training is kept."""
    from guard.checkpoint import open_checkpoint
    from guard.training.package import package_anew

    report = _evaluate(recipe, output, checkpoint)
    old = open_checkpoint(checkpoint)

    def make(folder: Path) -> None:
        shutil.copytree(old.path, folder, dirs_exist_ok=True)
        (folder / _INPUT).unlink()
        _copy_calibration(output / "evaluation", folder)
        package_anew(recipe, folder, report, old)
        (folder / _INPUT).touch()

    folder = output / "checkpoint"
    inputs = {"checkpoint": old.weights_digest, "evaluation": _digest(output / "evaluation")}
    stage_folder(folder, inputs, make)
    (folder / _INPUT).unlink(missing_ok=True)
    click.echo(f"checkpoint: {folder}")


def _copy_calibration(evaluation: Path, folder: Path) -> None:
    """What the evaluation fitted, and nothing that was there before."""
    from guard.checkpoint import CALIBRATION
    from guard.training.reliability import PICTURE

    for name in (CALIBRATION, PICTURE):
        (folder / name).unlink(missing_ok=True)
        if (evaluation / name).is_file():
            shutil.copyfile(evaluation / name, folder / name)


def _seconds(progress: Path) -> float:
    """Training time: the last record of each stage says how long it took."""
    records = map(json.loads, progress.read_text(encoding="utf-8").splitlines())
    last = {record["stage"]: float(record["seconds"]) for record in records}
    return sum(last.values())


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
