"""Field types shared by the wire structs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

# `$` would accept a trailing newline in Python; `(?![\s\S])` means "end" in Python and ECMA 262 alike.
_END: Final = r"(?![\s\S])"
_CONTROL: Final = r"[\u0000-\u001f\u007f]"
_PRINTABLE: Final = rf"^[^\u0000-\u001f\u007f]+{_END}"
_RFC3339: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?"
    rf"([Zz]|[+-][0-9]{{2}}:[0-9]{{2}}){_END}"
)
# A code is printed in prompts and copied by the model, so it is short and plain.
CATEGORY_CODE_PATTERN: Final = rf"^[A-Za-z][A-Za-z0-9_-]{{0,15}}{_END}"
# Larger whole numbers change in JSON readers that hold numbers as doubles (RFC 8259, RFC 8785).
EXACT_MAX: Final = 2**53 - 1

Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=_PRINTABLE,
        description="1 to 256 characters, no control characters",
    ),
]
# The same, of which `require_printable` checks the characters: a pattern takes ten times as long, which
# counts where every event passes.
PlainIdentifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="1 to 256 characters, no control characters",
        extra_json_schema={"pattern": _PRINTABLE},
    ),
]
Timestamp = Annotated[
    datetime, Meta(tz=True, description="RFC 3339 with an offset", extra_json_schema={"pattern": _RFC3339})
]
Sha256 = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{64}}{_END}", description="SHA-256, lower-case hex")]
CategoryCode = Annotated[
    str, Meta(pattern=CATEGORY_CODE_PATTERN, description="a letter, then up to 15 of A-Z a-z 0-9 _ -")
]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0, le=EXACT_MAX)]
Positive = Annotated[int, Meta(ge=1, le=EXACT_MAX)]

_FORBIDDEN: Final = re.compile(_CONTROL)


class FieldError(ValueError):
    """A rule of a field, or between fields, is broken; `path` leads from the struct to the field at fault."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def require_printable(field: str, value: str) -> None:
    """Raises `FieldError` for a control character. Where `value.isprintable()` there is none."""
    if _FORBIDDEN.search(value):
        raise FieldError("Expected no control characters", field)


Role = Literal["user", "assistant"]
Label = Literal["safe", "unsafe"]
Action = Literal["allow", "flag", "review", "block"]
Mode = Literal["fast", "think", "adaptive"]
# How a verdict came about; `adaptive` goes one way or the other.
Way = Literal["fast", "think"]
Lane = Literal["live", "shadow", "replay"]
