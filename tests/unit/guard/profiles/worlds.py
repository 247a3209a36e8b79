"""A policy that every profile can judge, and each profile's renderer over a small tokenizer of its family."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.profiles.rendering import Renderer, make_renderer
from schemas.policy import Category, Crosswalk, Policy
from tests.profile_folders import write_profile_folder

POLICY: Final = Policy(
    id="p",
    version="1",
    mode="fast",
    categories=(
        Category(
            code="C1",
            title="Violence",
            definition="threats; attacks",
            exceptions=("sport",),
            crosswalk=Crosswalk(rsafe=("U1",), mlcommons=("S1",), qwen3guard=("Violent",)),
        ),
        Category(
            code="C2",
            title="Personal data",
            definition="addresses and the like, of others",
            crosswalk=Crosswalk(rsafe=("U2",), mlcommons=("S7",), qwen3guard=("PII",)),
        ),
    ),
)
THINKING: Final = msgspec.structs.replace(POLICY, mode="think")


@cache
def checkpoint(name: str) -> Checkpoint:
    """A folder without weights, which stays until the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="rsafe-profile-"))
    write_profile_folder(folder, name)
    return open_checkpoint(str(folder), profile=name, weights=False)


@cache
def renderer(name: str) -> Renderer:
    of = checkpoint(name)
    return make_renderer(of.path, of.template, b"secret", of.profile)
