"""Results that are kept as they come, so that a measurement which was cut off goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from guard.training.durable import write_durably

Result = TypeVar("Result")


class _Kept(msgspec.Struct, frozen=True):
    """A result as it lies in its file."""

    seconds: float
    result: msgspec.Raw


def place_of(folder: Path, name: str, digest: str) -> Path:
    """Where the result of a name lies; `digest` is of what it is the result of.

    A `/` in the name becomes a `-`.
    """
    return folder / f"{name.replace('/', '-')}-{digest[:12]}.json"


def recall(path: Path, kind: type[Result]) -> tuple[Result, float] | None:
    """The result in the file and the seconds that it took; None without the file.

    Raises `msgspec.ValidationError` for a file that holds something else.
    """
    if not path.is_file():
        return None
    found = msgspec.json.decode(path.read_bytes(), type=_Kept)
    return msgspec.json.decode(found.result, type=kind), found.seconds


def keep(path: Path, result: object, seconds: float) -> None:
    """Write the result; the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, msgspec.json.encode(_Kept(seconds, msgspec.Raw(msgspec.json.encode(result)))))
