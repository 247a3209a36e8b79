"""`make test-faults`: the full run of the fault matrix. Goes on where it was interrupted.

python -m tests.acceptance.faults                    every row that is not finished, then the table
python -m tests.acceptance.faults --row worker-killed --row redis-killed
python -m tests.acceptance.faults --fresh            forget what earlier runs noted of these rows
python -m tests.acceptance.faults --minutes 5        stop between two repeats when so much time has passed
python -m tests.acceptance.faults --report           only write the table
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.acceptance.faults.driver import PAGE, mend, run_row
from tests.acceptance.faults.ledger import Ledger
from tests.acceptance.faults.report import commits, summary, table, write_into
from tests.acceptance.faults.row import Row
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.table import ROWS
from workers.adapters.embedded import LocalStack

FOLDER: Final = Path("build/faults")


def main(arguments: Sequence[str]) -> int:
    """0 when every repeat so far kept its promises, 1 when one did not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # workers and broker are ended on the way out
    chosen = _parser().parse_args(arguments)
    rows = [row for row in ROWS if not chosen.row or row.name in chosen.row]
    ledger = Ledger(chosen.folder)
    if chosen.fresh:
        for row in rows:
            ledger.forget(row.name)
    if not chosen.report:
        _run(rows, ledger, chosen.seed, chosen.minutes)
    made = table(((row.name, row.title, row.repeats) for row in ROWS), ledger)
    write_into(PAGE, f"{made}\n{commits((row.name for row in ROWS), ledger)}")
    found = [summary(ledger.read(row.name)) for row in rows]
    done, wanted = sum(one.done for one in found), sum(row.repeats for row in rows)
    violations = sum(one.violations for one in found)
    _say(f"{done} of {wanted} repeats, {violations} violations; the table is in {PAGE}")
    return 1 if violations else 0


def _run(rows: Sequence[Row], ledger: Ledger, seed: str, minutes: float | None) -> None:
    end = time.monotonic() + 60 * (minutes or float("inf"))
    left = [row for row in rows if _done(row, ledger) < row.repeats]
    if not left:
        return
    with LocalStack(ephemeral=True) as stack, tempfile.TemporaryDirectory(prefix="faults-") as folder:

        def open_site(row: Row) -> Site:
            mend(stack)
            return Site(stack, Path(tempfile.mkdtemp(dir=folder)), engine=row.engine, seed=seed)

        for row in left:
            if time.monotonic() < end:
                _say(f"{row.title}: {_done(row, ledger)} of {row.repeats} done")
                run_row(
                    row, open_site, ledger, seed=seed, time_is_up=lambda: time.monotonic() > end, say=_say
                )


def _done(row: Row, ledger: Ledger) -> int:
    return sum(repeat.number > 0 for repeat in ledger.read(row.name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults")
    parser.add_argument("--row", action="append", choices=[row.name for row in ROWS], help="may be repeated")
    parser.add_argument("--fresh", action="store_true", help="forget what was noted of these rows")
    parser.add_argument("--minutes", type=float, help="stop between two repeats after so long")
    parser.add_argument("--report", action="store_true", help="only write the table")
    parser.add_argument("--seed", default="0", help="of traffic and moments")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the repeats are noted")
    return parser


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
