"""`rsafe train`: data set, warm start, reinforced alignment, evaluation, gate, package.

Each command makes its stage, and those before it that are missing or whose inputs changed; a run that was
killed goes on where it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console

from guard.errors import GateFailed, RecipeError, TrainingError
from guard.training.recipe import read_recipe, shipped_names
from guard.training.run_log import RunLog
from guard.training.settings import ABLATIONS, Recipe
from guard.training.stages import sole_run

if TYPE_CHECKING:  # it imports what training needs, for which `--help` does not wait
    from guard.training.pipeline import Pipeline

Command = TypeVar("Command", bound=Callable[..., Any])
ANNOUNCE: Final = "announce"
"""Key of the context's object under which a function publishes the release of a checkpoint's folder."""
# Libraries of the extra `train`, by the part of a recipe that needs them.
_EXTRA: Final = {
    "": ("matplotlib", "sklearn"),
    "data": ("datasketch",),
    "warm_start": ("trl", "peft"),
    "grpo": ("trl", "peft"),
}


def _options(command: Command) -> Command:
    recipe = click.option(
        "--recipe",
        "recipe_name",
        default="tiny",
        show_default=True,
        metavar="NAME|FILE",
        help=f"What to train: a YAML file, or a shipped recipe ({', '.join(shipped_names())}).",
    )
    output = click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("training"),
        show_default=True,
        help="Folder for all stages.",
    )
    return recipe(output(command))


_checkpoint_option = click.option(
    "--checkpoint",
    help="A packaged checkpoint of the recipe, as a folder or a shipped name, instead of training one.",
)


def _package_options(command: Command) -> Command:
    key = click.option(
        "--key",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Sign the checkpoint with the private key (ed25519) in this file.",
    )
    announce = click.option(
        "--announce", is_flag=True, help="Publish the release to the topic `moderation.checkpoints`."
    )
    return key(announce(command))


@click.group()
def train() -> None:
    """Make and measure a checkpoint."""


@train.command()
@_options
def dataset(recipe_name: str, output: Path) -> None:
    """Labelled rows and their data card; from scratch the tokenizer, and evaluation sets to read."""
    with _pipeline(recipe_name, output) as run:
        run.dataset()


@train.command("warm-start")
@_options
def warm_start_command(recipe_name: str, output: Path) -> None:
    """Teach the model to answer in form: from random weights, or from a base.

    A base without `warm_start` in the recipe is taken as it is.
    """
    with _pipeline(recipe_name, output) as run:
        run.warm_start()


@train.command()
@_options
def grpo(recipe_name: str, output: Path) -> None:
    """Reinforced alignment: GRPO with rule rewards, where the recipe has it."""
    with _pipeline(recipe_name, output) as run:
        run.grpo()


@train.command()
@_options
@_checkpoint_option
@click.option(
    "--without",
    type=click.Choice(list(ABLATIONS)),
    help="An ablation of RSafe's, in a folder of its own: fast answers alone, or the warm start's weights.",
)
def evaluate(recipe_name: str, output: Path, checkpoint: str | None, without: str | None) -> None:
    """Measure the weights through vLLM, in both modes: sets of rows, how often attacks succeed, and what
    scores are worth; fit the calibration of the scores.

    Runs the stages before it when they are missing or their inputs changed, unless `--checkpoint` names what
    to measure.
    """
    if checkpoint and without:
        raise click.UsageError("expected either --checkpoint or --without: an ablation is of a run")
    with _pipeline(recipe_name, output) as run:
        if without:
            _show(run.ablation(without))
        elif checkpoint:
            from guard.checkpoint import open_checkpoint

            _show(run.evaluation_of(open_checkpoint(checkpoint)))
        else:
            _show(run.evaluation())


@train.command()
@click.argument("challenger", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("champion", type=click.Path(path_type=Path, exists=True, file_okay=False))
def compare(challenger: Path, champion: Path) -> None:
    """Two evaluations side by side, as a Markdown table: folders that `evaluate` wrote, such as
    `training/evaluation` and `training/evaluation-without-reinforcement`.

    For every suite and mode: the unsafe rows that are missed, the safe rows that are refused, the pairs that
    are wrong, in percent, and the 95 % interval of the difference.
    """
    from guard.training.comparison import compare_reports, report_in, table

    rows = compare_reports(report_in(challenger), report_in(champion))
    click.echo(table(rows, challenger.name, champion.name))


@train.command()
@_options
def gate(recipe_name: str, output: Path) -> None:
    """Compare the model with the recipe's floors and with its champion, suite by suite.

    Ends with 1 when a row fails, and names each that does.
    """
    with _pipeline(recipe_name, output) as run:
        folder = run.gate()
        if folder is None:
            raise RecipeError(f"recipe {run.recipe.name}: found no `gate`; expected floors or allowed drops")
        run.require_passed(folder)
        click.echo("the gate is passed")


@train.command()
@_options
@_checkpoint_option
@_package_options
def package(recipe_name: str, output: Path, checkpoint: str | None, key: Path | None, announce: bool) -> None:
    """Calibration, model card and manifest: the checkpoint folder is `<output>/checkpoint`.

    Runs the stages before it, training included, when they are missing or their inputs changed. With
    `--checkpoint` the same weights are measured and packaged anew.
    """
    _package(recipe_name, output, checkpoint, key, announce=announce)


@train.command()
@_options
@_package_options
def run(recipe_name: str, output: Path, key: Path | None, announce: bool) -> None:
    """All stages in order; those that are there, made from the same inputs, are skipped."""
    _package(recipe_name, output, None, key, announce=announce)


def _package(
    recipe_name: str, output: Path, checkpoint: str | None, key: Path | None, *, announce: bool
) -> None:
    publish = _announcer() if announce else None
    with _pipeline(recipe_name, output) as run:
        if checkpoint:
            from guard.checkpoint import open_checkpoint

            folder = run.checkpoint_anew(open_checkpoint(checkpoint), key)
        else:
            from guard.training.package import COMMAND

            # The name alone: where the file lay on this machine says nothing elsewhere.
            folder = run.checkpoint(COMMAND.format(recipe=Path(recipe_name).name), key)
        _show(output / "evaluation")
    click.echo(f"checkpoint: {folder}")
    if publish is not None:
        click.echo(f"announced: {publish(folder)}")


def _announcer() -> Callable[[Path], str]:
    """What publishes a release and says where; the worker, whose Kafka is, puts it into the context."""
    known = click.get_current_context().obj
    if not isinstance(known, dict) or ANNOUNCE not in known:
        raise click.UsageError("--announce needs the command `rsafe`, which knows the broker")
    publish: Callable[[Path], str] = known[ANNOUNCE]
    return publish


@contextmanager
def _pipeline(recipe_name: str, output: Path) -> Iterator[Pipeline]:
    """The stages of a recipe in a folder that no other run works in; errors become exit codes."""
    try:
        recipe = read_recipe(recipe_name)
    except RecipeError as error:
        raise _Refused(str(error)) from error
    _require_extra(recipe)
    from guard.training.pipeline import Pipeline

    with sole_run(output), RunLog(Console(stderr=True)) as log:
        try:
            yield Pipeline(recipe, output, log.say, log.show)
        except GateFailed as error:
            sentence, *rows = str(error).splitlines()
            for row in rows:
                log.say(row)
            raise click.ClickException(sentence) from error
        except RecipeError as error:
            raise _Refused(str(error)) from error


class _Refused(click.ClickException):
    """An input of the command cannot be used."""

    exit_code = 2


def _require_extra(recipe: Recipe) -> None:
    """Before anything that takes long. Raises `TrainingError`."""
    for part, modules in _EXTRA.items():
        for module in modules:
            if (not part or getattr(recipe, part) is not None) and importlib.util.find_spec(module) is None:
                raise TrainingError(f"expected {module}, which the extra `train` brings; not installed")


def _show(evaluation: Path) -> None:
    from guard.training.attack_evaluation import lines
    from guard.training.steps import read_report

    report = read_report(evaluation)
    for bar in report["bars"]:
        word = "reached" if bar["met"] else "MISSED"
        wanted = f"{bar['least']:.2f}" if "least" in bar else f"at most {bar['most']:.2f}"
        click.echo(f"{bar['mode']:6} {bar['figure']:22} {bar['value']:.4f}  wanted {wanted}  {word}")
    for line in lines(report):
        click.echo(line)
