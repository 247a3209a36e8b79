"""Redis away: events a second of the whole worker while Redis hangs, or is gone, against one without a cache.

    python -m benchmarks.redis_away [--records 60000] [--rounds 5]

Every event is judged, by the scripted engine; the cache in the process is off. The contenders read the same
topic one after the other, in turns, on the same broker. Redis hangs (SIGSTOP), or does not run, from before a
worker's start until its last decision. Rates are those of the output topic by the broker's clock, without the
first tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.cache_bound import BATCH, QUESTIONS, Bench, take_turns
from benchmarks.measure import Rate, facts_line, machine_facts, middle, ratios, table, write_results

YARDSTICK: Final = "no Redis in the settings"
HANGS: Final = "Redis hangs"
GONE: Final = "Redis is gone"
CONTENDERS: Final = (YARDSTICK, HANGS, GONE)


def measure(bench: Bench, name: str) -> Rate:
    """One run; Redis is there again afterwards."""
    redis = bench.stack.redis
    settings = {"RSAFE_REDIS__URL": ""} if name == YARDSTICK else {}
    if name == HANGS:
        redis.suspend()
    elif name == GONE:
        redis.stop()
    try:
        return bench.worker("redis", expect_hits=False, settings=settings)
    finally:
        if name == HANGS:
            redis.resume()
        elif name == GONE:
            redis.start()


def report(rates: Mapping[str, list[Rate]], records: int) -> None:
    """The table, and each round's ratio to the worker without a cache."""
    found = {name: [rate.per_second for rate in ones] for name, ones in rates.items()}
    compared = {name: ratios(ones, found[YARDSTICK]) for name, ones in found.items()}
    rows = [(name, middle(ones), middle(compared[name], 2)) for name, ones in found.items()]
    facts = machine_facts("confluent-kafka", "msgspec", "redis")
    markdown = (
        "# Redis away: all events judged\n\n"
        + table(("", "events/s", "of the worker without a cache"), rows)
        + f"\n{records:,} events over {QUESTIONS:,} questions, batches of {BATCH}, "
        + f"{len(found[YARDSTICK])} rounds in turns; scripted engine; medians and ranges.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "records": records, "rates": dict(rates), "ratios": compared}
    write_results("redis_away", markdown, data)


def main() -> None:
    """Run it."""
    report(*take_turns(__doc__, {name: name for name in CONTENDERS}, measure))


if __name__ == "__main__":
    main()
