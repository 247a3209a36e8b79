"""Latency at half load: what the worker adds to the guard, what a remembered verdict takes, and whether a
slow guard holds up those who do not ask it. By `rsafe load`.

    python -m benchmarks.latency [--seconds 20] [--records 40000] [--rounds 5]

Each round takes four measures, each with a yardstick of its own in the same round:

- *added*: nothing known, the scripted engine with a fixed time an answer and a bounded number of answers at a
  time, so that its capacity is known. Half of that capacity; the yardstick is the guard alone, asked at the
  same rate in a process without a worker.
- *cached*: everything known, at half of what the worker takes as fast as possible in the same round. The
  yardstick is the bare loop (`bare_loop.py`) in the worker's place at the same rate. Sending at a rate and
  reading what comes take their share of the cores: where they are few, that may be the larger half, so:
- *calm*: the same at a rate that leaves the cores air.
- *beside*: hits, while one event in ten, of other conversations, waits for a slow guard. The yardstick is the
  same load before a guard that answers at once.

Latencies count from when an event was due until its decision was consumed.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.loaded import Asks, Site
from benchmarks.measure import facts_line, machine_facts, middle, say, table, write_results
from benchmarks.workload import draw, turns_of
from guard.checkpoint import open_checkpoint
from guard.serving.assembly import build_judge
from guard.serving.identity import JudgeLimits
from guard.serving.question import Question
from guard.serving.vllm_start import VllmOptions
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.load.figures import Spread
from workers.policies import load_policies

HEALTH_PORT: Final = 18_085
ANSWER_MS: Final = 100
ANSWERS: Final = 32
CAPACITY_PER_S: Final = ANSWERS * 1000 / ANSWER_MS
SLOW_ANSWER_MS: Final = 500
BESIDE_PER_S: Final = 200.0
CALM_PER_S: Final = 1_000.0
# So many that a hit is seldom of a conversation in which a miss waits: it would have to wait, for the order.
MANY_CONVERSATIONS: Final = 100_000


class Pair(msgspec.Struct, frozen=True):
    """A measure and its yardstick, milliseconds."""

    p50: float
    p99: float
    other_p50: float
    other_p99: float


class Round(msgspec.Struct, frozen=True):
    """The measures of one round. `cached_per_s`: the rate of `cached`."""

    added: Pair
    cached: Pair
    calm: Pair
    beside: Pair
    cached_per_s: float


class Bench:
    """One broker and one Redis; each run has a worker and topics of its own."""

    def __init__(self, addresses: Addresses, folder: Path, seconds: float, records: int) -> None:
        self._addresses, self._folder = addresses, folder
        self._seconds, self._records = seconds, records

    def round(self, seed: int) -> Round:
        """All measures once."""
        added = self._added(seed)
        cached, cached_per_s = self._cached(seed, None)
        calm, _ = self._cached(seed, CALM_PER_S)
        return Round(added, cached, calm, self._beside(seed), cached_per_s)

    def _added(self, seed: int) -> Pair:
        asks = self._asks(CAPACITY_PER_S / 2, 0.0, seed)
        settings = {
            "RSAFE_GUARD__SCRIPTED_DELAY_MS": str(ANSWER_MS),
            "RSAFE_GUARD__MAX_CONCURRENCY": str(ANSWERS),
        }
        return _pair(self._worker(asks, **settings), _guard_alone(asks, seed))

    def _cached(self, seed: int, rate: float | None) -> tuple[Pair, float]:
        """At a rate; None: at half of what the worker takes as fast as possible. And at which rate."""
        site = self._site()
        site.start()
        try:
            if rate is None:
                fast = Asks(rate=None, count=self._records, hits=1.0, seed=seed)
                fastest = site.load(fast).throughput.broker_per_s
                assert fastest is not None
                rate = fastest / 2
            asks = self._asks(rate, 1.0, seed)
            found = site.load(asks).latency_ms.hits
        finally:
            site.stop()
        bare = self._site()
        bare.start_bare_loop(asks.events)
        try:
            return _pair(found, bare.load(asks).latency_ms.hits), rate
        finally:
            bare.stop()

    def _beside(self, seed: int) -> Pair:
        asks = msgspec.structs.replace(
            self._asks(BESIDE_PER_S, 0.9, seed), conversations=MANY_CONVERSATIONS, zipf=0.0
        )
        fast = self._worker(asks)
        slow = self._worker(asks, RSAFE_GUARD__SCRIPTED_DELAY_MS=str(SLOW_ANSWER_MS))
        return _pair(slow, fast)

    def _worker(self, asks: Asks, **settings: str) -> Spread:
        """The latencies of a load on a new worker: of hits, or of misses where nothing is to be hit."""
        site = self._site()
        site.start(**settings)
        try:
            found = site.load(asks).latency_ms
            return found.hits if asks.hits else found.misses
        finally:
            site.stop()

    def _site(self) -> Site:
        return Site(self._addresses, self._folder, uuid.uuid4().hex[:8], HEALTH_PORT)

    def _asks(self, rate: float, hits: float, seed: int) -> Asks:
        return Asks(rate=rate, count=max(100, round(rate * self._seconds)), hits=hits, seed=seed)


def _guard_alone(asks: Asks, seed: int) -> Spread:
    """How long the guard takes for as many questions at the same rate, when nothing else is done."""
    assert asks.rate is not None
    rate = asks.rate
    policies = load_policies("", "community").by_id
    checkpoint = open_checkpoint("tiny")
    length = checkpoint.max_model_len
    judge = build_judge(
        "scripted",
        checkpoint,
        secret=b"latency",
        limits=JudgeLimits(max_model_len=length),
        options=VllmOptions(max_model_len=length),
        scripted_delay_s=ANSWER_MS / 1000,
    )
    questions = [
        Question(policy=policies["community"], turns=turns_of(event), mode="think")
        for event in draw(200, seed, policies)
    ]

    async def all_of_them() -> list[float]:
        async def one(number: int, due_s: float) -> float:
            await asyncio.sleep(due_s - time.monotonic())
            begun_s = time.monotonic()
            await judge.judge(questions[number % len(questions)])
            return (time.monotonic() - begun_s) * 1000

        await judge.start()
        try:
            begin_s = time.monotonic()
            return await asyncio.gather(*(one(n, begin_s + n / rate) for n in range(asks.count)))
        finally:
            await judge.close()

    took = np.array(asyncio.run(all_of_them()))
    return Spread(count=len(took), p50=float(np.percentile(took, 50)), p99=float(np.percentile(took, 99)))


def _pair(found: Spread, other: Spread) -> Pair:
    values = found.p50, found.p99, other.p50, other.p99
    p50, p99, other_p50, other_p99 = (value if value is not None else float("nan") for value in values)
    return Pair(p50, p99, other_p50, other_p99)


def report(rounds: Sequence[Round], seconds: float) -> None:
    """The table."""
    titles = {
        "added": f"nothing known, half load; the guard of {ANSWER_MS} ms alone",
        "cached": "all known, half load; the bare loop at the same rate",
        "calm": f"all known, {CALM_PER_S:,.0f} events/s; the bare loop at the same rate",
        "beside": f"hits beside a guard of {SLOW_ANSWER_MS} ms; the same beside one of 0 ms",
    }
    rows = []
    for name, title in titles.items():
        pairs: list[Pair] = [getattr(one, name) for one in rounds]
        rows += [
            (
                f"{title}, {label}",
                middle([getattr(pair, label) for pair in pairs], 1),
                middle([getattr(pair, f"other_{label}") for pair in pairs], 1),
                middle([getattr(pair, label) - getattr(pair, f"other_{label}") for pair in pairs], 1),
                middle([getattr(pair, label) / getattr(pair, f"other_{label}") for pair in pairs], 2),
            )
            for label in ("p50", "p99")
        ]
    facts = machine_facts("confluent-kafka", "msgspec", "redis")
    markdown = (
        "# Latency at half load\n\n"
        + table(("", "worker, ms", "yardstick, ms", "difference, ms", "ratio"), rows)
        + f"\n{len(rounds)} rounds, {seconds:g} s a load; medians and ranges, differences and ratios within "
        + f"a round. Half load: {CAPACITY_PER_S / 2:g} events/s where nothing is known, "
        + f"{middle([one.cached_per_s for one in rounds])} where all is. All on the same cores.\n"
        + facts_line(facts)
    )
    write_results("latency", markdown, {"facts": facts, "seconds": seconds, "rounds": list(rounds)})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        bench = Bench(stack.addresses, Path(folder), options.seconds, options.records)
        for number in range(options.rounds):
            rounds.append(bench.round(number))
            one = rounds[-1]
            say(
                f"round {number + 1}: p50 {one.added.p50:.1f} ms asked, {one.cached.p50:.1f} ms cached, "
                f"{one.calm.p50:.1f} ms calm, "
                f"p99 {one.beside.p99:.1f} ms beside a slow guard"
            )
    report(rounds, options.seconds)


if __name__ == "__main__":
    main()
