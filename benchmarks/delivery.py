"""Ways of delivery: events a second of the whole worker at least once, and exactly once.

    python -m benchmarks.delivery [--records 60000] [--rounds 5]

All verdicts are known, as in `cache_bound`, so that nothing but the stream is measured: with a guard that
judges, the difference is smaller. The contenders read the same topic one after the other, in turns, on the
same broker. Rates are those of the output topic by the broker's clock, without the first tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.cache_bound import BATCH, QUESTIONS, Bench, take_turns
from benchmarks.measure import (
    Rate,
    facts_line,
    machine_facts,
    median,
    spread,
    table,
    write_results,
)

YARDSTICK: Final = "at least once"


def exactly_once(records: int) -> dict[str, str]:
    """A window of so many records; a commit is due when a good part of it is finished, or after 500 ms."""
    return {
        "RSAFE_KAFKA__DELIVERY": "exactly-once",
        "RSAFE_STREAM__IN_FLIGHT_RECORDS": str(records),
        "RSAFE_STREAM__IN_FLIGHT_RECORDS_PER_PARTITION": str(max(1_000, records // 2)),
    }


CONTENDERS: Final[Mapping[str, Mapping[str, str]]] = {
    YARDSTICK: {},
    "exactly once, window of 500": exactly_once(500),
    "exactly once, window of 2,000": exactly_once(2_000),
    "exactly once, window of 8,000": exactly_once(8_000),
    "exactly once, window of 20,000 (default)": exactly_once(20_000),
}


def report(rates: Mapping[str, list[Rate]], records: int) -> None:
    """The table, and each round's ratio to delivery at least once."""
    yardstick = [rate.per_second for rate in rates[YARDSTICK]]
    medians = {name: median([rate.per_second for rate in found]) for name, found in rates.items()}
    ratios = {
        name: [rate.per_second / other for rate, other in zip(found, yardstick, strict=True)]
        for name, found in rates.items()
    }
    rows = [
        (
            name,
            f"{medians[name]:,.0f}",
            spread([rate.per_second for rate in found]),
            f"{median(ratios[name]):.2f}",
            f"{min(ratios[name]):.2f}–{max(ratios[name]):.2f}",
        )
        for name, found in rates.items()
    ]
    facts = machine_facts("confluent-kafka", "msgspec", "redis", "hiredis")
    markdown = (
        "# Ways of delivery: all verdicts known\n\n"
        + table(("", "events/s (median)", "range", "of at least once", "range"), rows)
        + f"\n{records:,} events over {QUESTIONS:,} questions, batches of {BATCH}, {len(yardstick)} rounds "
        + "in turns; broker and Redis on the same cores. A ratio is taken within a round.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "records": records, "rates": dict(rates), "medians": medians, "ratios": ratios}
    write_results("delivery", markdown, data)


def main() -> None:
    """Run it."""

    def measure(bench: Bench, name: str) -> Rate:
        return bench.worker("local", settings=CONTENDERS[name])

    report(*take_turns(__doc__, {name: name for name in CONTENDERS}, measure))


if __name__ == "__main__":
    main()
