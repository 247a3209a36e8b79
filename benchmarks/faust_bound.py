"""Guard-bound, against Faust: an agent that takes events in batches and asks a vLLM server.

    python -m benchmarks.faust_bound [--rounds 5] [--checkpoint tiny]

As `naive_bound`, with `faust_take.py` in the place of the naive worker.
"""

from __future__ import annotations

from typing import ClassVar, Final

from benchmarks import naive_bound
from benchmarks.guard_bound import Titles, run

TITLES: Final = Titles("faust_bound", "Guard-bound: against a Faust agent", "Faust `take()`, decisions/s")


class Bench(naive_bound.Bench):
    """The worker and the agent, on one broker."""

    module: ClassVar = "benchmarks.faust_take"


def main() -> None:
    """Run it."""
    run(__doc__, Bench, TITLES)


if __name__ == "__main__":
    main()
