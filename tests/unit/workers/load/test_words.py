"""The report for people, and the progress."""

from __future__ import annotations

import io

from rich.console import Console

from tests.unit.workers.load.test_report import RATE, _add, _sent, _summarise
from tests.unit.workers.load.worlds import Clock
from workers.load.drive import Sent
from workers.load.follow import DEAD_LETTER, HIT, MISS, UNJUDGED, Outcomes
from workers.load.words import Progress, lines


def _outcomes(sent: Sent) -> Outcomes:
    outcomes = Outcomes()
    for number in range(len(sent.at_s) - 2):
        _add(outcomes, number, MISS if number % 10 == 0 else HIT, sent.at_s[number] + 0.025)
    _add(outcomes, len(sent.at_s) - 2, UNJUDGED, 99.0, "late\x1b[31m")
    return outcomes


def test_all_that_was_counted_is_told() -> None:
    sent = _sent(5, 100, 200)
    outcomes = _outcomes(sent)
    _add(outcomes, 304, DEAD_LETTER, 99.0, "poisoned")
    _add(outcomes, 304, DEAD_LETTER, 99.0, "poisoned")
    text = "\n".join(lines(_summarise(sent, outcomes)))
    assert "pool: 5 sent, 5 judged, 0 missing" in text
    assert "warm-up: 100 sent, 100 judged, 0 missing" in text
    assert (
        "200 sent, 198 judged, 1 unjudged (late\\x1b[31m 1), 1 dead letters (poisoned 1), 0 missing" in text
    )
    assert "duplicates: 1" in text
    assert "asked: 50.0%" in text
    assert "consumed, hits" in text
    assert "at the broker, all" in text
    assert "p50    25.0" in text
    assert "p99.9       –" in text


def test_at_max_throughput_stands_first_and_the_latency_is_explained() -> None:
    sent = _sent(0, 0, 200)
    found = list(lines(_summarise(sent, _outcomes(sent), None)))
    assert any(line.startswith("throughput: ") for line in found)
    assert any("closed only by the producer's queue" in line for line in found)


def test_without_a_terminal_progress_is_a_plain_line_a_second() -> None:
    clock, written = Clock(), io.StringIO()
    sent, console = _sent(0, 0, 200), Console(file=written)
    outcomes = _outcomes(sent)
    with Progress(console, clock.now) as progress:
        progress.told("load", sent, outcomes, RATE)
        assert written.getvalue() == ""
        clock.sleep(2.0)
        progress.told("load", sent, outcomes, RATE)
        progress.told("load", sent, outcomes, RATE)
        clock.sleep(2.0)
        progress.told("load", sent, outcomes, RATE)
    first, second = written.getvalue().splitlines()
    assert first.startswith("load: 200 sent (100/s), 199 outcomes (100/s), 1 under way, hits 89%, p50 25 ms")
    assert "(0/s)" in second
    assert "p50" not in second  # nothing came meanwhile


def test_in_a_terminal_one_line_moves() -> None:
    clock, written = Clock(), io.StringIO()
    console = Console(file=written, force_terminal=True, width=200)
    with Progress(console, clock.now) as progress:
        clock.sleep(1.0)
        progress.told("pool", _sent(5, 0, 0), Outcomes(), None)
    assert "pool: 5 sent" in written.getvalue()
    assert not written.getvalue().endswith("…\n")
