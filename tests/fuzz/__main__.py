"""`python -m tests.fuzz`: a million inputs over all decoders, within bounds, and a table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.fuzz.bounds import bounded, peak_bytes, timed
from tests.fuzz.inputs import make_input
from tests.fuzz.targets import TARGETS, Target

# Inputs of one target in a row; the targets take turns.
ROUND: Final = 1_000
_MOST_SHOWN: Final = 5
_PROGRESS_S: Final = 10.0


@dataclass
class Score:
    """What the inputs of one target did."""

    inputs: int = 0
    accepted: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest_bytes: int = 0
    largest_bytes: int = 0


def try_input(target: Target, seed: int, number: int, score: Score) -> str | None:
    """Run one input; the failure in words, or None."""
    data = make_input(seed, target.name, number, target.corpus)
    accepted = False

    def run(content: bytes) -> None:
        nonlocal accepted
        accepted = target.run(content)

    score.inputs += 1
    score.largest_bytes = max(score.largest_bytes, len(data))
    try:
        seconds = timed(run, data)
    except Exception as error:  # noqa: BLE001 (any exception is what is looked for)
        score.failed += 1
        return f"{type(error).__name__}: {str(error)[:200]} ({len(data)} bytes: {data[:80]!r})"
    score.accepted += accepted
    score.seconds += seconds
    if seconds > score.slowest_s:
        score.slowest_s, score.slowest_bytes = seconds, len(data)
    return None


def run_inputs(targets: Sequence[Target], seed: int, first: int, count: int) -> tuple[dict[str, Score], int]:
    """Inputs `first` to `first + count` of the run; scores, and the number of the next input.

    Ends early, with what there is, when interrupted from the keyboard.
    """
    scores = {target.name: Score() for target in targets}
    number = first
    told = time.monotonic()
    with bounded():
        try:
            while number < first + count:
                turn, place = divmod(number, ROUND)
                target = targets[turn % len(targets)]
                own = turn // len(targets) * ROUND + place
                score = scores[target.name]
                failure = try_input(target, seed, own, score)
                if failure is not None and score.failed <= _MOST_SHOWN:
                    again = f"--seed {seed} --only '{target.name}' --first {own} --inputs 1"
                    _say(f"{target.name} {own}: {failure}; again: {again}")
                number += 1
                if time.monotonic() - told > _PROGRESS_S:
                    told = time.monotonic()
                    _say(f"{number - first} of {count} …")
        except KeyboardInterrupt:
            _say(f"interrupted; goes on with --seed {seed} --first {number}")
    return scores, number


def table(scores: dict[str, Score]) -> str:
    """One row per decoder, in Markdown."""
    rows = [
        "| Decoder | inputs | accepted | failures | mean µs | slowest ms | of bytes | largest input |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, score in scores.items():
        mean_us, slowest_ms = score.seconds / max(1, score.inputs) * 1e6, score.slowest_s * 1000
        counts = f"{score.inputs} | {score.accepted} | {score.failed}"
        sizes = f"{score.slowest_bytes} | {score.largest_bytes}"
        rows.append(f"| {name} | {counts} | {mean_us:.1f} | {slowest_ms:.1f} | {sizes} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a decoder failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="default: %(default)s, over all")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to go on with a run")
    parser.add_argument("--only", choices=[target.name for target in TARGETS], help="one decoder")
    parser.add_argument("--guided", action="store_true", help="by atheris, if it is installed; needs --only")
    options = parser.parse_args(arguments)
    targets = [target for target in TARGETS if options.only in (None, target.name)]
    if options.guided:
        from tests.fuzz.guided import run_guided

        if options.only is None:
            parser.error("--guided: expected --only with one decoder")
        run_guided(targets[0], options.inputs, options.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    before, started = peak_bytes(), time.monotonic()
    scores, following = run_inputs(targets, options.seed, options.first, options.inputs)
    _say(table(scores))
    failed = sum(score.failed for score in scores.values())
    seconds, grown = time.monotonic() - started, (peak_bytes() - before) / 2**20
    _say(
        f"\nseed {options.seed}, inputs {options.first} to {following - 1}, {seconds:.0f} s; "
        f"{failed} failures; memory grew by {grown:.0f} MiB at most"
    )
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
