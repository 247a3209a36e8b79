"""Every row of the fault matrix once, on one stack. The full run is `make test-faults`.

Rows of one engine share a site, so that a worker is started for a fault and not for a test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.faults.driver import closing, is_stuck, mend, prepare, run_repeat, sentence
from tests.acceptance.faults.row import Row
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.table import ROWS
from tests.conftest import require
from workers.adapters.embedded import LocalStack
from workers.errors import StartError

pytestmark = pytest.mark.faults
SEED = "short"


@dataclass
class Sites:
    """The site of each engine, opened when it is needed; anew when work got stuck on the one before."""

    stack: LocalStack
    folder: Path
    open: dict[str, Site] = field(default_factory=dict)
    opened: int = 0

    def of(self, engine: str) -> Site:
        if engine not in self.open:
            self.close()  # one at a time: two cores
            mend(self.stack)
            self.opened += 1
            folder = self.folder / f"{engine}-{self.opened}"
            self.open[engine] = Site(self.stack, folder, engine=engine, seed=SEED, short=True)
            self.open[engine].__enter__()
        return self.open[engine]

    def close(self) -> None:
        for engine in [*self.open]:
            self.open.pop(engine).__exit__(None, None, None)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    # Not the stack of the other tests: this one is broken on purpose.
    stack = LocalStack(ephemeral=True)
    try:
        stack.start()
    except StartError as error:
        require(False, str(error))
    made = Sites(stack, tmp_path_factory.mktemp("faults"))
    try:
        yield made
    finally:
        made.close()
        stack.stop()


def _parameters() -> Iterator[object]:
    """The rows of one engine one after another, and then the closing check of their site."""
    for engine, marks in (("scripted", []), ("vllm", [pytest.mark.heavy])):
        rows = [row for row in ROWS if row.engine == engine]
        # Equal settings together, so that the worker stays. What stood on a deleted topic goes with it: last.
        rows.sort(key=lambda row: (row.name == "output-deleted", row.delivery, sorted(row.settings.items())))
        for row in rows:
            yield pytest.param(row, False, id=row.name, marks=marks)
        yield pytest.param(rows[0], True, id=f"closing-{engine}", marks=marks)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("row", "closes"), [*_parameters()])
def test_nothing_is_lost_and_work_resumes(
    row: Row, closes: bool, sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    site = sites.of(row.engine)
    prepare(site, row)
    repeat = closing(site, row, SEED) if closes else run_repeat(site, row, 1, SEED)
    with capsys.disabled():  # what a fault showed belongs into the log of a build, passed or not
        sys.stdout.write(f"\n{sentence(repeat)}\n")
    if is_stuck(repeat) or closes:
        sites.close()
    assert repeat.passed, sentence(repeat)
