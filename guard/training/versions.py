"""Versions of the libraries that a stage goes through: those it was made with, for its record."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_ALWAYS: Final = ("rsafe-stream", "torch", "tokenizers", "transformers", "safetensors")
_TRL: Final = ("trl", "peft", "accelerate", "datasets")
_MORE: Final[Mapping[str, Sequence[str]]] = {
    "dataset": ("datasketch",),
    "supervised": _TRL,
    "grpo": (*_TRL, "vllm"),
    "evaluation": ("vllm", "scikit-learn"),
}


def stage_versions(code: str) -> dict[str, str]:
    """Name → version of Python and of a stage's libraries that are installed; `code` as in `code_version`."""
    found = {"python": platform.python_version()}
    for name in (*_ALWAYS, *_MORE.get(code, ())):
        if known := _version(name):
            found[name] = known
    return found


def engine_version() -> str:
    """Of the engine that answers in an evaluation; empty where it is not installed."""
    return _version("vllm")


def _version(name: str) -> str:
    for distribution in (name, f"{name}-cpu"):  # as some builds without a GPU are called
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""
