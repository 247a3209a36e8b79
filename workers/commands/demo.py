"""`rsafe demo`: the whole path on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource
from rich.console import Console

from workers.demo.run import DemoOptions, run_demo
from workers.demo.story import STORIES
from workers.demo.story_run import StoryOptions, run_story
from workers.errors import UsageError

# The story, told to its end, was another one than it says.
EXIT_OTHERWISE: Final = 1


@click.command()
@click.option("--events", type=click.IntRange(1, 100_000), default=300, show_default=True, help="How many.")
@click.option(
    "--rate", type=click.FloatRange(0.1), default=25.0, show_default=True, help="Events per second."
)
@click.option("--keep-running", is_flag=True, help="Leave everything up afterwards, until Ctrl-C.")
@click.option(
    "--engine",
    type=click.Choice(["vllm", "scripted"]),
    default="vllm",
    show_default=True,
    help="`scripted` needs no model, and its verdicts mean nothing.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".rsafe/demo"),
    show_default=True,
    help="Where the worker's log goes.",
)
@click.option("--story", type=click.Choice(list(STORIES)), help="Tell this story instead, scene by scene.")
@click.pass_context
def demo(
    ctx: click.Context,
    events: int,
    rate: float,
    keep_running: bool,
    engine: str,
    folder: Path,
    story: str | None,
) -> None:
    """Send chat events through a real Kafka, a real Redis and a real guard, and show the decisions.

    Ends by itself with exit code 0, or says why not. Addresses of an existing Kafka or Redis are used when
    RSAFE_KAFKA__BOOTSTRAP_SERVERS or RSAFE_REDIS__URL is set. With `--story`, on topics of its own; exit code
    1 when it went otherwise than it is told.
    """
    console = Console(highlight=False)
    if story is not None:
        _tell(ctx, StoryOptions(name=story, engine=engine, folder=folder), console)
        return
    options = DemoOptions(events=events, rate=rate, keep_running=keep_running, engine=engine, folder=folder)
    try:
        run_demo(options, console)
    except KeyboardInterrupt:
        raise click.Abort from None


def _tell(ctx: click.Context, options: StoryOptions, console: Console) -> None:
    for name in ("events", "rate", "keep_running"):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: a story has its own; expected it without --story")
    try:
        told = run_story(options, console)
    except KeyboardInterrupt:
        raise click.Abort from None
    if not told:
        raise click.exceptions.Exit(EXIT_OTHERWISE)
