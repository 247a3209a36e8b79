"""What `rsafe judge` needs of a guard and of a policy, for one message as for a file of them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import click

from guard.serving.judge import Judge
from schemas.policy import Policy
from workers.errors import UsageError
from workers.policy_files import read_policy_file
from workers.published_policies import loaded_policies
from workers.settings import Settings

# Beside the codes of `workers.errors`: asked about, and no verdict.
EXIT_UNJUDGED: Final = 5


def named_policy(settings: Settings, name: str) -> Policy:
    """The policy of a file, or of an id among those that are loaded. Raises `UsageError`."""
    if name.endswith((".yaml", ".yml")):
        found = read_policy_file(Path(name))
        if len(found) != 1:
            raise UsageError(
                f"{name} holds {len(found)} policies; expected one, or the id of a loaded policy"
            )
        return found[0].policy
    loaded = loaded_policies(settings, default="").by_id
    if name not in loaded:
        raise UsageError(f"no policy {name!r}; expected a .yaml file or one of {', '.join(sorted(loaded))}")
    return loaded[name]


@asynccontextmanager
async def started(guard: Judge) -> AsyncIterator[None]:
    """The guard runs within the block; that it takes a while to come up is told."""
    if guard.identity.engine.startswith("vllm-remote"):
        click.echo("looking for a vLLM server of RSAFE_GUARD__ENDPOINTS …", err=True)
    elif guard.identity.engine.startswith("vllm"):
        click.echo("starting vLLM, which takes a minute or two …", err=True)
    await guard.start()
    try:
        yield
    finally:
        await guard.close()


@contextmanager
def results_alone_on_stdout() -> Iterator[int]:
    """Whatever libraries and their processes print meanwhile goes to stderr; the descriptor is stdout's."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield kept
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
