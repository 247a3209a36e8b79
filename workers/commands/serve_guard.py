"""`rsafe serve-guard`: a vLLM server over the checkpoint of the settings, for workers with `remote`."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Final

import click

from guard.checkpoint import Checkpoint
from guard.serving.remote_options import served_name
from guard.serving.serve_command import (
    on_cpu,
    require_hardware,
    serve_arguments,
    serve_environment,
    server_program,
)
from workers.errors import UsageError
from workers.judging import stored_checkpoint, vllm_options
from workers.settings import GuardSettings, load_settings

# The key goes through the environment; as an argument every user of the machine could read it. The name of
# the model says what is served, and another one would be a lie.
_OURS: Final = {
    "--api-key": "RSAFE_GUARD__ENDPOINT_API_KEY",
    "--served-model-name": "the checkpoint, whose weights digest it is",
    "--model": "RSAFE_GUARD__CHECKPOINT",
    "--port": "`rsafe serve-guard --port`",
    "--host": "`rsafe serve-guard --host`",
}


@click.command(name="serve-guard")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port.")
@click.option("--print", "only_print", is_flag=True, help="Show the command line; start nothing.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve_guard(host: str, port: int, only_print: bool, arguments: tuple[str, ...]) -> None:
    """Run `vllm serve` over the checkpoint of the settings, for workers with RSAFE_GUARD__ENGINE=remote.

    The checkpoint is verified first, as a worker does. ARGUMENTS behind `--` are vLLM's own, such as
    `--tensor-parallel-size 2` or `--ssl-certfile`, and win over ours. The key is
    RSAFE_GUARD__ENDPOINT_API_KEY; without one, whoever reaches the port may ask.
    """
    for argument in arguments:
        if (setting := _OURS.get(argument.partition("=")[0].replace("_", "-"))) is not None:
            raise UsageError(f"{argument.partition('=')[0]}: is set by {setting}; expected it not here")
    guard = load_settings().guard
    checkpoint = stored_checkpoint(guard)
    cpu = on_cpu()
    command = [
        *server_program(checkpoint.path),
        *_arguments(guard, checkpoint, host, port, arguments, cpu=cpu),
    ]
    if only_print:
        click.echo(shlex.join(command))
        return
    require_hardware()
    environment = serve_environment(os.environ, guard.endpoint_api_key.get_secret_value(), cpu=cpu)
    sys.stdout.flush()
    sys.stderr.flush()
    # In our place, so that signals and the exit code are the server's.
    os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted


def _arguments(
    guard: GuardSettings,
    checkpoint: Checkpoint,
    host: str,
    port: int,
    more: tuple[str, ...],
    *,
    cpu: bool,
) -> list[str]:
    return serve_arguments(
        checkpoint.path,
        vllm_options(guard, guard.max_model_len or checkpoint.max_model_len),
        name=served_name(checkpoint.weights_digest, guard.load_format, guard.quantization),
        host=host,
        port=port,
        cpu=cpu,
        more=more,
    )
