"""Errors of the training data, and who acts on them.

GuardError
└── TrainingDataError     settings, a source or a mapping that cannot be used: whoever wrote the recipe acts
    └── RowError          one line of a file: it names file, line and field, never what stands there
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from guard.errors import GuardError

# Of msgspec's sentences the part after ` - at ` leads to the field; an enumeration's repeats the value found.
_SENTENCE: Final = re.compile(r"(?P<message>.*?)(?: - at `\$\.?(?P<field>[^`]*)`)?", re.DOTALL)
_FOUND_VALUE: Final = re.compile(r"Invalid enum value .*", re.DOTALL)
_BROKEN: Final = re.compile(r"JSON is malformed: .*|Input data was truncated|Invalid UTF-8 .*", re.DOTALL)


class TrainingDataError(GuardError):
    """The data of a training run cannot be used as the settings ask."""


class RowError(TrainingDataError):
    """A line of a file is not what was expected there."""

    def __init__(self, file: Path, line: int, field: str, expected: str) -> None:
        at = f"{field}: " if field else ""
        super().__init__(f"{file}:{line}: {at}{expected}")
        self.file = file
        self.line = line
        self.field = field


def explained(file: Path, line: int, error: Exception, values: str = "") -> RowError:
    """What msgspec found wrong with a line, without the value that it found.

    `values` says what an enumeration may be, where the type has one.
    """
    parts = _SENTENCE.fullmatch(str(error))
    assert parts is not None
    message, field = parts["message"], parts["field"] or ""
    if isinstance(error, UnicodeDecodeError):
        message = "expected UTF-8"
    elif _FOUND_VALUE.fullmatch(message):
        message = f"expected {values}" if values else "expected one of the values of this field"
    elif _BROKEN.fullmatch(message):
        message = "expected one JSON object on a line"
    return RowError(file, line, field, message)
