"""The command `rsafe`. Each subcommand is imported when it is called, so that help and checks stay quick."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from guard.errors import GuardError
from workers.errors import WorkerError
from workers.terminal import harmless

# name → (module:object, one line for `rsafe --help`)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "worker": ("workers.commands.worker:worker", "Judge the events of the topic until stopped."),
    "serve-guard": ("workers.commands.serve_guard:serve_guard", "A vLLM server for workers elsewhere."),
    "judge": ("workers.commands.judge:judge", "Judge one message, without Kafka."),
    "rederive": ("workers.commands.rederive:rederive", "Rebuild what the guard read of a decision."),
    "policy": ("workers.commands.policy:policy", "Check, show and hash policies."),
    "topics": ("workers.commands.topics:topics", "Create the topics; what a user of Kafka must be allowed."),
    "produce": ("workers.commands.produce:produce", "Publish events from a JSON lines file."),
    "decisions": ("workers.commands.decisions:decisions", "Show the decisions."),
    "review": ("workers.commands.review:review", "Publish a person's word on a decision."),
    "conduct": ("workers.commands.conduct:conduct", "Count decisions over time; show, forget."),
    "redrive": ("workers.commands.redrive:redrive", "Put dead letters back onto their topic."),
    "cache": ("workers.commands.cache:cache", "Look at, and empty, the verdict cache in Redis."),
    "load": ("workers.commands.load:load", "A load like a client's, and how long it took."),
    "plan": ("workers.commands.plan:plan", "How many workers, GPUs and partitions a traffic needs."),
    "checkpoint": (
        "workers.commands.checkpoint:checkpoint",
        "Verify, show, compare, sign and announce checkpoints.",
    ),
    "doctor": ("workers.commands.doctor:doctor", "Check all that a worker needs, and say what to mend."),
    "settings": ("workers.commands.settings:settings", "Show the settings in force."),
    "local": ("workers.commands.local:local", "A real Kafka and a real Redis on this machine."),
    "demo": ("workers.commands.demo:demo", "The whole path on this machine, with a live table."),
    "train": ("workers.commands.train:train", "Make and measure a checkpoint."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="rsafe-stream")
def rsafe() -> None:
    """Streaming moderation for chat: Kafka in, an RSafe guard on vLLM, auditable decisions out."""


def main() -> None:
    """Run the command line; errors become one sentence and an exit code (see `workers.errors`)."""
    try:
        # An exit code that a command asked for (`click.exceptions.Exit`) comes back as the result.
        code = rsafe.main(prog_name="rsafe", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # the help
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"rsafe: {_sentence(error)}", err=True)
        sys.exit(error.exit_code)
    except WorkerError as error:
        click.echo(f"rsafe: {error}", err=True)
        sys.exit(error.exit_code)
    except GuardError as error:
        click.echo(f"rsafe: {error}", err=True)
        sys.exit(3)


def _sentence(error: click.ClickException) -> str:
    sentence = harmless(error.format_message().rstrip("."))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{sentence} (see `{error.ctx.command_path} --help`)"
    return sentence
