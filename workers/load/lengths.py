"""How long the texts of a load are: of a distribution, or as in a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from workers.errors import UsageError

Ints = npt.NDArray[np.int64]

_KINDS: Final = {"lognormal": ("MEDIAN", "SIGMA"), "uniform": ("A", "B"), "fixed": ("N",)}


class Lengths(msgspec.Struct, frozen=True):
    """A distribution of text lengths in characters. `name`: as it was asked for."""

    name: str
    kind: str
    numbers: tuple[float, ...]
    """Of the distribution; of a file, its lengths."""

    def draw(self, rng: np.random.Generator, count: int, longest: int) -> Ints:
        """`count` lengths from 1 to `longest`; what lies outside is moved to the bound."""
        match self.kind:
            case "lognormal":
                median, sigma = self.numbers
                found = np.exp(rng.normal(math.log(median), sigma, count))
            case "uniform":
                low, high = self.numbers
                found = rng.integers(int(low), int(high), count, endpoint=True).astype(np.float64)
            case _:
                found = rng.choice(np.asarray(self.numbers, dtype=np.float64), count)
        return np.asarray(np.clip(np.rint(found), 1, longest), dtype=np.int64)


def read_lengths(spec: str) -> Lengths:
    """`lognormal:MEDIAN:SIGMA`, `uniform:A:B`, `fixed:N`, or the name of a file.

    A line of the file is a number of characters, or JSON: a text, an object with `text`, or an event.
    Raises `UsageError` that says what was expected, with the line of a file; never a text.
    """
    kind, _, rest = spec.partition(":")
    if kind in _KINDS:
        return _distribution(spec, kind, rest.split(":"))
    return Lengths(spec, "file", _from_file(Path(spec)))


def _distribution(spec: str, kind: str, words: list[str]) -> Lengths:
    wanted = f"--lengths: expected {':'.join((kind, *_KINDS[kind]))}"
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        raise UsageError(f"{wanted}, with numbers, not {spec}") from None
    if len(numbers) != len(_KINDS[kind]) or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{wanted}, with numbers, not {spec}")
    if numbers[0] < 1 or (kind == "lognormal" and numbers[1] < 0):
        raise UsageError(f"{wanted}, with lengths from 1 and SIGMA from 0, not {spec}")
    if kind != "lognormal" and not all(number.is_integer() for number in numbers):
        raise UsageError(f"{wanted}, with whole numbers, not {spec}")
    if kind == "uniform" and numbers[1] < numbers[0]:
        raise UsageError(f"{wanted}, B not below A, not {spec}")
    return Lengths(spec, kind, numbers)


def _from_file(path: Path) -> tuple[float, ...]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        kinds = ", ".join(":".join((kind, *numbers)) for kind, numbers in _KINDS.items())
        raise UsageError(f"--lengths: expected {kinds} or a file; {path}: {error.strerror}") from error
    found = tuple(_length(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise UsageError(f"--lengths: {path} holds no line")
    return found


def _length(path: Path, number: int, line: bytes) -> float:
    try:
        value: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if isinstance(value, dict):
        inner = value.get("message")
        value = value.get("text", inner.get("text") if isinstance(inner, dict) else None)
    if isinstance(value, str):
        return float(max(1, len(value)))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return float(value)
    raise UsageError(
        f"--lengths: {path}:{number}: expected a whole number from 1, a JSON string, an object with `text`, "
        "or an event"
    )
