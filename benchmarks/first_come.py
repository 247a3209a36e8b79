"""The worker with a plain queue before the guard: first come, first served, whatever the deadline.

    python -m benchmarks.first_come worker

The yardstick of `overload.py`; everything else is the worker as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workers import bootstrap
from workers.cli import main
from workers.stream.budget import Claim, GuardBudget


class FirstCome(GuardBudget):
    """Forgets deadlines; who waits still leaves at its own."""

    @asynccontextmanager
    async def hold(self, claim: Claim) -> AsyncIterator[None]:
        claim.deadline_s = None
        async with super().hold(claim):
            yield

    def postpone(self, claim: Claim, deadline_s: float | None) -> None:
        """Nothing to move."""


if __name__ == "__main__":
    vars(bootstrap)["GuardBudget"] = FirstCome
    main()
