"""Files that a recipe's rows come from: their contents are inputs of the data set, as their names are."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from guard.errors import TrainingError

_PLACES: Final = ("path", "file", "policies", "mapping")
_YAML: Final = (".yaml", ".yml")


def data_files(settings: Mapping[str, Any]) -> dict[str, str]:
    """Path → SHA-256 (hex) of every file that a field named like a place of files leads to.

    A folder stands for the files below it, a mapping also for the policies that lie beside it; a name that
    leads nowhere is that of something shipped, or is left to the step that reads it, as is a mapping that is
    none. Raises `TrainingError` for one that cannot be read.
    """
    found: dict[str, str] = {}
    for named in sorted(set(_paths(settings, named=False))):
        path = Path(named)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                found[str(file)] = _sha256(file)
                found |= {str(policy): _sha256(policy) for policy in _policies_of(file)}
    return found


def _policies_of(file: Path) -> Iterator[Path]:
    """The policy files that a mapping names, from its own folder."""
    from guard.training.data.errors import TrainingDataError
    from guard.training.data.mapping import MappingFile
    from guard.training.data.yaml_file import read_yaml

    if file.suffix not in _YAML:
        return
    with contextlib.suppress(TrainingDataError):
        for view in read_yaml(file, MappingFile).views:
            policy = file.parent / view.policy
            if policy.suffix in _YAML and policy.is_file():
                yield policy


def _paths(value: Any, *, named: bool) -> Iterator[str]:
    match value:
        case str() if named and value:
            yield value
        case Mapping():
            for key, below in value.items():
                yield from _paths(below, named=any(word in str(key) for word in _PLACES))
        case list() | tuple():
            for below in value:
                yield from _paths(below, named=named)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
