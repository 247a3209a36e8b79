"""What a check found: one line with the remedy, and the same for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

Area = Literal[
    "settings", "versions", "policies", "checkpoint", "engine", "kafka", "topics", "rights", "redis", "clock"
]
AREAS: Final[tuple[Area, ...]] = get_args(Area)
Status = Literal["ok", "warning", "problem", "not_checked"]
_WORDS: Final[dict[Status, str]] = {
    "ok": "ok",
    "warning": "warning",
    "problem": "problem",
    "not_checked": "not checked",
}
_WIDTH: Final = max(map(len, _WORDS.values()))


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One result. A problem keeps a worker from its work; a warning does not, or not yet.

    `remedy` says what to do; a problem and a warning always have one, `not_checked` where something can be
    done. Never a secret and never the text of a message.
    """

    area: Area
    status: Status
    what: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.status in ("problem", "warning") and not self.remedy:
            raise ValueError(f"{self.what}: a {self.status} without a remedy")

    def line(self) -> str:
        """For people: status, area, what was found, what to do."""
        mend = f" → {_plain(self.remedy)}" if self.remedy else ""
        return f"{_WORDS[self.status]:<{_WIDTH}}  {self.area}: {_plain(self.what)}{mend}"


def ok(area: Area, what: str) -> Finding:
    """Looked at, and as it should be."""
    return Finding(area=area, status="ok", what=what)


def warning(area: Area, what: str, remedy: str) -> Finding:
    """Works, and may not stay so or may not be meant."""
    return Finding(area=area, status="warning", what=what, remedy=remedy)


def problem(area: Area, what: str, remedy: str) -> Finding:
    """Keeps a worker from starting, or from doing what it is for."""
    return Finding(area=area, status="problem", what=what, remedy=remedy)


def not_checked(area: Area, why: str, remedy: str = "") -> Finding:
    """Could not be looked at, or need not be; says why."""
    return Finding(area=area, status="not_checked", what=why, remedy=remedy)


def has_problems(findings: Iterable[Finding]) -> bool:
    """Whether something has to be mended before a worker can do its work."""
    return any(one.status == "problem" for one in findings)


def summary(findings: Sequence[Finding]) -> str:
    """The last line: how many of each."""
    counts = {status: sum(one.status == status for one in findings) for status in _WORDS}
    return ", ".join(f"{count} {_WORDS[status]}" for status, count in counts.items() if count)


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The content of `--json`."""
    return {
        "healthy": not has_problems(findings),
        "counts": {status: sum(one.status == status for one in findings) for status in _WORDS},
        "findings": msgspec.to_builtins(list(findings)),
    }


def _plain(sentence: str) -> str:
    return "; ".join(line.strip() for line in sentence.splitlines() if line.strip())
