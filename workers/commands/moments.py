"""Times on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGO: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_EXPECTED: Final = "expected a time as in RFC 3339, with an offset, or how long ago: 90s, 30m, 2h, 7d"


class Moment(click.ParamType[float]):
    """A time in Unix milliseconds, from RFC 3339 with an offset, or from how long ago it was.

    `now_s` gives Unix seconds.

    >>> Moment(lambda: 7200.0).convert("2h", None, None)
    0.0
    """

    name = "time"

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises `click.BadParameter` saying what was expected."""
        if not isinstance(value, str):
            return float(value)
        if ago := _AGO.fullmatch(value):
            return (self._now_s() - int(ago[1]) * _UNITS_S[ago[2]]) * 1000
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(_EXPECTED, param, ctx)
        if moment.tzinfo is None:
            self.fail(_EXPECTED, param, ctx)
        return moment.timestamp() * 1000
