"""One repeat of a fault and its verdict, a row of them, and the check at the end of a row."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from redis import RedisError

from tests.acceptance.agreement import duplicates, volatile_paths
from tests.acceptance.checker import answers, check, order
from tests.acceptance.evidence import Json, Run, Violation, read_decisions, read_letters
from tests.acceptance.faults import unjudged
from tests.acceptance.faults.ledger import Ledger, Repeat, commit_of
from tests.acceptance.faults.row import Row
from tests.acceptance.faults.seen import Slice, due_of, longest_pause_s
from tests.acceptance.faults.site import WINDOW, Site
from tests.acceptance.faults.standstill import facts
from tests.acceptance.faults.traffic import SECRETS
from workers.adapters.embedded import LocalStack
from workers.errors import StartError

ROOT: Final = Path(__file__).parents[3]
SCHEMA_FILE: Final = ROOT / "schemas" / "wire" / "decision.v1.schema.json"
PAGE: Final = ROOT / "docs" / "operations" / "faults.md"
"""The run writes its results into it."""
# Of a repeat with thousands of violations the first tell what is wrong.
_SHOWN: Final = 10
_SHOWN_CHARS: Final = 600
# The end of the worker's log comes with it.
_STUCK_CHARS: Final = 4_000
# What must not happen in a repeat is noted instead of ending the run.
_TROUBLE: Final = (AssertionError, StartError, KafkaException, RedisError, TimeoutError)
_STUCK: Final = "stuck: "
# A row that gets stuck so often is not worth more time.
_MOST_STUCK: Final = 3


def run_row(
    row: Row,
    open_site: Callable[[Row], Site],
    ledger: Ledger,
    *,
    seed: str,
    time_is_up: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _sentence: None,
) -> bool:
    """The repeats of the row that the ledger lacks; whether none of these violated anything.

    `open_site` gives a fresh site over a stack that is whole: at the beginning, and after a repeat that
    violated anything. Ends between two repeats when the time is up.
    """
    done = {one.number for one in ledger.read(row.name)}
    left = [number for number in range(1, row.repeats + 1) if number not in done]
    passed, stuck = True, 0
    while left and not time_is_up() and stuck < _MOST_STUCK:
        with open_site(row) as site:
            noted = _noted(ledger, say)
            repeat = _opening(site, row, seed)
            while repeat.passed and left and not time_is_up():
                repeat = run_repeat(site, row, left.pop(0), seed)
                noted(repeat)
                passed &= repeat.passed
            if is_stuck(repeat):
                stuck += 1
                if not repeat.number:
                    noted(repeat)
                passed = False
                continue
            noted(last := closing(site, row, seed))
            passed &= last.passed
    return passed


def run_repeat(site: Site, row: Row, number: int, seed: str) -> Repeat:
    """Disturb, wait until everything published so far is answered, and check it; violations are noted."""
    began = time.monotonic()
    site.repeat = number
    try:
        row.fault(site, random.Random(f"{seed}/{row.name}/{number}"))
        ended_ms = site.instants.ended_ms
        site.watch.wait(
            lambda: _resumed(site, ended_ms), timeout_s=row.patience_s, awaited="answer after the fault"
        )
        ends = site.load.ends()
        site.watch.wait_answered(ends, timeout_s=row.patience_s, each=site.assert_alive)
        return _verdict(site, row, number, seed, began, site.watch.take(ends))
    except _TROUBLE as error:
        return _stuck(site, row, number, seed, began, error)


def closing(site: Site, row: Row, seed: str) -> Repeat:
    """Settle, stop the workers, and check what only the whole run can show: commits, and order throughout."""
    began = time.monotonic()
    try:
        site.settle(row.patience_s)
        for worker in [*site.workers]:
            site.stop(worker)
        repeat = _verdict(site, row, 0, seed, began, site.watch.take(site.load.ends()))
        left = site.uncommitted()
        found = [*_whole_run(site)]
        if left:
            found.append(Violation("missing", site.topics.events, f"commits of {left} answered events"))
        return _with(repeat, found)
    except _TROUBLE as error:
        return _stuck(site, row, 0, seed, began, error)


def is_stuck(repeat: Repeat) -> bool:
    """Whether work did not resume, so that the site is of no more use."""
    return any(violation.startswith(_STUCK) for violation in repeat.violations)


def mend(stack: LocalStack) -> None:
    """Have Kafka and Redis run, whatever a repeat that failed left of them."""
    for part in (stack.kafka, stack.redis):
        part.resume()
        part.start()


def _noted(ledger: Ledger, say: Callable[[str], None]) -> Callable[[Repeat], None]:
    def note(repeat: Repeat) -> None:
        ledger.append(repeat)
        say(sentence(repeat))

    return note


def sentence(repeat: Repeat) -> str:
    """A repeat in one line, and its violations."""
    back = "" if repeat.resumed_s is None else f", back after {repeat.resumed_s:.2f} s"
    name = f"{repeat.row} {repeat.number or 'closing'}"
    lines = [
        f"{name}: {repeat.events} events, {repeat.duplicates} duplicates (at most {repeat.most_duplicates}), "
        f"{repeat.violation_count} violations{back}, {repeat.lasted_s:.1f} s",
        *(f"  {violation}" for violation in repeat.violations),
    ]
    return "\n".join(lines)


def _opening(site: Site, row: Row, seed: str) -> Repeat:
    """Workers and load as the row wants them; what is wrong so early is noted as of number 0."""
    began = time.monotonic()
    try:
        prepare(site, row)
    except _TROUBLE as error:
        return _stuck(site, row, 0, seed, began, error)
    return Repeat(
        row=row.name, number=0, seed=seed, began=_now(), commit=_commit(), lasted_s=time.monotonic() - began
    )


def prepare(site: Site, row: Row) -> None:
    """Have the site's worker run as the row wants it, under the row's load."""
    settings = dict(row.settings)
    if row.delivery != "at-least-once":
        settings["RSAFE_KAFKA__DELIVERY"] = row.delivery
    site.use(
        settings, rate_per_s=row.rate_per_s, malformed_only=row.malformed_only, deadline_ms=row.deadline_ms
    )


def _resumed(site: Site, ended_ms: float) -> bool:
    site.assert_alive()
    return site.watch.first_answer_after(ended_ms) is not None


def _verdict(site: Site, row: Row, number: int, seed: str, began: float, seen: Slice) -> Repeat:
    schema: Json = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    run = Run(
        events=seen.events,
        decisions=seen.decisions,
        dead_letters=seen.dead_letters,
        expected=due_of(seen.events, site.load.due()),
        log_lines=site.log_lines(),
        texts=SECRETS,
    )
    origins = {record.place for record in seen.events}
    found = unjudged.reasons(read_decisions(seen.decisions)[0])
    found = {origin: reason for origin, reason in found.items() if origin in origins}
    decided = sum(arrival.decided for arrival in seen.arrivals)
    repeat = Repeat(
        row=row.name,
        number=number,
        seed=seed,
        began=_now(),
        commit=_commit(),
        lasted_s=time.monotonic() - began,
        events=seen.fresh,
        decisions=decided,
        dead_letters=len(seen.arrivals) - decided,
        unjudged=len(found),
        duplicates=seen.duplicates,
        most_duplicates=row.most_duplicates(WINDOW),
        resumed_s=_first_after(seen, site.instants.ended_ms) if number else None,
        pause_s=longest_pause_s(seen.arrivals),
    )
    late = site.load.late() & origins
    beyond = [*_beyond_bounds(row, repeat), *unjudged.beyond(found, late, row.unjudged)]
    return _with(repeat, [*check(run, schema), *beyond])


def _beyond_bounds(row: Row, repeat: Repeat) -> Iterator[Violation]:
    if repeat.duplicates > repeat.most_duplicates:
        detail = f"{repeat.duplicates} duplicates; at most {repeat.most_duplicates} expected"
        yield Violation("both", "all partitions", detail)


def _whole_run(site: Site) -> Iterator[Violation]:
    seen = site.watch.everything()
    run = Run(seen.events, seen.decisions, seen.dead_letters, due_of(seen.events, site.load.due()))
    decided, letters = read_decisions(run.decisions)[0], read_letters(run.dead_letters)[0]
    yield from answers(run, decided, letters)
    yield from duplicates(decided, volatile_paths(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))))
    yield from order(run.events, decided)


def _first_after(seen: Slice, instant_ms: float) -> float | None:
    published = {record.place: record.timestamp_ms for record in seen.events}
    times = [a.at_ms for a in seen.arrivals if published.get(a.origin, 0) > instant_ms]
    return max(0.0, min(times) - instant_ms) / 1000 if times else None


def _with(repeat: Repeat, found: list[Violation]) -> Repeat:
    kinds = dict(Counter(violation.kind for violation in found))
    shown = [str(violation)[:_SHOWN_CHARS] for violation in found[:_SHOWN]]
    if len(found) > _SHOWN:
        shown.append(f"in all: {kinds}")
    return msgspec.structs.replace(
        repeat,
        violations=(*repeat.violations, *shown),
        violation_count=repeat.violation_count + len(found),
    )


def _stuck(site: Site, row: Row, number: int, seed: str, began: float, error: Exception) -> Repeat:
    return Repeat(
        row=row.name,
        number=number,
        seed=seed,
        began=_now(),
        commit=_commit(),
        lasted_s=time.monotonic() - began,
        most_duplicates=row.most_duplicates(WINDOW),
        violations=(
            f"{_STUCK}{str(error) or type(error).__name__}"[:_STUCK_CHARS],
            # What the workers said last is all that is left when the folder has gone.
            *(f"the log of a worker ends:\n{worker.last_lines()}" for worker in site.workers),
            *facts(site),
        ),
        violation_count=1,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str:
    return commit_of(ROOT, but_for=[str(PAGE.relative_to(ROOT))])
