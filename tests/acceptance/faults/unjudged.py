"""Which events may come out unjudged in a repeat, and which must be late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set

from tests.acceptance.evidence import Decided, Violation
from tests.acceptance.records import Place


def reasons(decided: Iterable[Decided]) -> dict[Place, str]:
    """Event → why it came out unjudged, of those that did."""
    return {
        one.origin: str(one.body.get("reason")) for one in decided if one.body.get("status") == "unjudged"
    }


def beyond(
    found: Mapping[Place, str], overdue: Set[Place], allowed: Mapping[str, int | None]
) -> Iterator[Violation]:
    """What of `found` must not be: events of `overdue` must be late and nothing else.

    `allowed`: reason → most events besides; None: any number.
    """
    for place in sorted(overdue):
        if found.get(place) != "late":
            detail = f"{found.get(place, 'judged')}; expected late: it was read after its deadline"
            yield Violation("unexpected", str(place), detail)
    counted = Counter(reason for place, reason in found.items() if place not in overdue)
    for reason, count in sorted(counted.items()):
        most = allowed.get(reason, 0)
        if most is not None and count > most:
            detail = f"{count} events unjudged, {reason}; at most {most} expected"
            yield Violation("unexpected", "decisions", detail)
