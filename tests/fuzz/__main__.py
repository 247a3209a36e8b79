"""`python -m tests.fuzz`: a million inputs into each decoder, within bounds, and a table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.bounds import bounded, forget_peak, peak_bytes, timed
from tests.fuzz.inputs import make_input
from tests.fuzz.report import Score, summary, table, write_into
from tests.fuzz.targets import TARGETS, Target

# Inputs of one target in a row; the targets take turns.
ROUND: Final = 1_000
_MOST_SHOWN: Final = 5
_PROGRESS_S: Final = 10.0


def try_input(target: Target, seed: int, number: int, score: Score) -> str | None:
    """Run one input; the failure in words, or None."""
    begun = time.monotonic()
    try:
        return _tried(target, seed, number, score)
    finally:
        score.wall_s += time.monotonic() - begun


def _tried(target: Target, seed: int, number: int, score: Score) -> str | None:
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
                if place == 0 or number == first:
                    forget_peak()
                failure = try_input(target, seed, own, score)
                if failure is not None and score.failed <= _MOST_SHOWN:
                    again = f"--seed {seed} --only '{target.name}' --first {own} --inputs 1"
                    _say(f"{target.name} {own}: {failure}; again: {again}")
                number += 1
                if number % ROUND == 0 or number == first + count:
                    score.peak_bytes = max(score.peak_bytes, peak_bytes())
                if time.monotonic() - told > _PROGRESS_S:
                    told = time.monotonic()
                    _say(f"{number - first} of {count} …")
        except KeyboardInterrupt:
            _say(f"interrupted; goes on with --seed {seed} --first {number}")
    return scores, number


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a decoder failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--inputs", type=int, default=1_000_000, help="default: %(default)s, for each decoder"
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of all, to go on")
    parser.add_argument("--only", choices=[target.name for target in TARGETS], help="one decoder")
    parser.add_argument("--guided", action="store_true", help="by atheris, if it is installed; needs --only")
    parser.add_argument(
        "--page", type=Path, help="page whose table is written anew, after a run of all decoders"
    )
    options = parser.parse_args(arguments)
    targets = [target for target in TARGETS if options.only in (None, target.name)]
    if options.guided:
        from tests.fuzz.guided import run_guided

        if options.only is None:
            parser.error("--guided: expected --only with one decoder")
        run_guided(targets[0], options.inputs, options.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    count = max(0, options.inputs * len(targets) - (0 if options.only else options.first))
    scores, following = run_inputs(targets, options.seed, options.first, count)
    failed = sum(score.failed for score in scores.values())
    words = summary(scores, options.seed, options.first, following, time.monotonic() - started)
    _say(f"{table(scores)}\n\n{words}")
    if options.page is not None:
        # Decoders take turns of so many inputs: else some would have had more than others.
        even = options.inputs % ROUND == 0
        whole = even and options.only is None and options.first == 0 and following == count
        if whole:
            write_into(options.page, f"{table(scores)}\n\n{words}")
        _say(f"{options.page}: {'written' if whole else 'left as it was, since this was not a whole run'}")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
