"""What a row of the fault matrix is."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tests.acceptance.faults.site import Site

Fault: TypeAlias = Callable[[Site, random.Random], None]
"""Does the whole of it: waits for its moment, disturbs, and puts right what an operator or a scheduler would.

Marks the instants with `Site.begins` and `Site.ends`. Raises `AssertionError` when what must happen does not.
"""
Delivery = Literal["at-least-once", "exactly-once"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Bounds are per repeat."""

    name: str
    title: str
    fault: Fault
    repeats: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the worker that differ from the site's."""
    engine: Literal["scripted", "vllm"] = "scripted"
    delivery: Delivery = "at-least-once"
    rate_per_s: float = 50.0
    windows: int = 0
    """How many windows of records in flight may be decided twice in one repeat.

    One for a worker that ends by force, or that loses its partitions or is refused its commits.
    """
    unjudged: Mapping[str, int | None] = field(default_factory=dict)
    """Reasons with which events may come out unjudged, and most events in a repeat; None: any number."""
    deadline_ms: int | None = None
    """Deadline of every event of the load; None: they have none."""
    malformed_only: bool = False
    patience_s: float = 90.0
    """Longest time from the end of the fault until all is answered."""

    def most_duplicates(self, window: int) -> int:
        """The bound in force."""
        return window * self.windows
