from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.acceptance.faults import driver
from tests.acceptance.faults.ledger import Ledger, Repeat
from tests.acceptance.faults.row import Row


class NoSite:
    """Stands for a site that was opened."""

    workers: ClassVar[list[Any]] = []

    opened = 0

    def __enter__(self) -> NoSite:
        type(self).opened += 1
        return self

    def __exit__(self, *_: object) -> None: ...


def no_fault(_site: Any, _rng: random.Random) -> None: ...


ROW = Row("a-row", "a fault", no_fault, repeats=6)


def repeat(number: int, *violations: str) -> Repeat:
    return Repeat(
        row=ROW.name,
        number=number,
        seed="0",
        began="",
        lasted_s=0.0,
        violations=violations,
        violation_count=len(violations),
    )


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[int, Repeat]:
    """What each repeat comes to; the others pass."""
    found: dict[int, Repeat] = {}
    NoSite.opened = 0
    monkeypatch.setattr(driver, "prepare", lambda _site, _row: None)
    monkeypatch.setattr(driver, "closing", lambda _site, _row, _seed: found.get(0, repeat(0)))
    monkeypatch.setattr(
        driver, "run_repeat", lambda _site, _row, number, _seed: found.get(number, repeat(number))
    )
    return found


def run(ledger: Ledger, **more: Any) -> bool:
    return driver.run_row(ROW, lambda _row: NoSite(), ledger, seed="0", **more)  # type: ignore[arg-type,return-value]


def numbers(ledger: Ledger) -> list[int]:
    return [one.number for one in ledger.read(ROW.name)]


def test_only_repeats_that_are_not_noted_are_run_and_then_the_row_is_closed(
    outcomes: dict[int, Repeat], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(repeat(2))
    assert run(ledger)
    assert numbers(ledger) == [2, 1, 3, 4, 5, 6, 0]
    assert run(ledger)
    assert NoSite.opened == 1


def test_a_violation_is_noted_and_the_row_goes_on_with_a_fresh_site(
    outcomes: dict[int, Repeat], tmp_path: Path
) -> None:
    outcomes[2] = repeat(2, "missing at events/0/1: expected a decision")
    ledger = Ledger(tmp_path)
    assert not run(ledger)
    assert (numbers(ledger), NoSite.opened) == ([1, 2, 0, 3, 4, 5, 6, 0], 2)


def test_work_that_does_not_resume_gets_a_fresh_site_and_three_times_are_enough(
    outcomes: dict[int, Repeat], tmp_path: Path
) -> None:
    outcomes[3] = repeat(3, "stuck: no answer after the fault within 90 s")
    ledger = Ledger(tmp_path)
    assert not run(ledger)
    assert (numbers(ledger), NoSite.opened) == ([1, 2, 3, 4, 5, 6, 0], 2)
    ledger.forget(ROW.name)
    outcomes.update({number: repeat(number, "stuck: again") for number in range(1, 7)})
    assert not run(ledger)
    assert numbers(ledger) == [1, 2, 3]


def test_a_row_whose_worker_does_not_start_is_noted(
    outcomes: dict[int, Repeat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_site: Any, _row: Row) -> None:
        raise AssertionError("the worker ended with exit code 3")

    monkeypatch.setattr(driver, "prepare", refuse)
    monkeypatch.setattr(driver, "facts", lambda _site: ["load: 3 sent"])
    ledger = Ledger(tmp_path)
    assert not run(ledger)
    assert numbers(ledger) == [0, 0, 0]
    assert ledger.read(ROW.name)[0].violations == (
        "stuck: the worker ended with exit code 3",
        "load: 3 sent",
    )


def test_time_that_is_up_ends_the_row_between_two_repeats(
    outcomes: dict[int, Repeat], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    assert run(ledger, time_is_up=lambda: len(numbers(ledger)) >= 2)
    assert numbers(ledger) == [1, 2, 0]


def test_a_sentence_tells_the_violations() -> None:
    said = driver.sentence(repeat(4, "leak at log line 1: log"))
    assert said.startswith("a-row 4: 0 events, 0 duplicates (at most 0), 1 violations")
    assert said.endswith("\n  leak at log line 1: log")
