"""How fast a guard of seven billion parameters is on one GPU: ours, beside bare vLLM and beside the chip.

    python -m benchmarks.gpu [--shape qwen2.5-7b] [--precision bfloat16 --precision fp8] [--rounds 3]

The model has random weights: they multiply as fast as trained ones. Messages are the demo's, each new; the
policy is in the prefix cache of both. Ours is the judge over vLLM's asynchronous engine in its own process,
as the worker asks it, without Kafka and Redis (`guard_bound` is the whole worker). Bare vLLM makes the same
calls, all of a wave at once, by vLLM's offline engine with the same arguments. Both stay up and take turns.
Random weights write no verdict: a rationale always has its whole budget, its forced close comes to nothing,
and every message that is thought about ends unjudged. So `think` is the dearest that it can be.

Without a GPU: `--shape tiny --precision float32 --messages 200`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.gpu.contenders import ASKED, Asked, Bare, Ours, Pass, options_for
from benchmarks.gpu.peak import measured_peak
from benchmarks.gpu.shapes import SHAPES, Shape, write_model
from benchmarks.measure import facts_line, machine_facts, median, middle, ratios, say, table, write_results
from benchmarks.workload import draw
from guard.checkpoint import open_checkpoint
from workers.policies import load_policies

_DIVISOR: Final[dict[Asked, int]] = {"fast": 1, "think-128": 4, "think-512": 8, "adaptive": 2}
"""Of the messages of a `fast` pass, so that all take about as long."""


class Round(msgspec.Struct, frozen=True):
    """One turn of each over the same messages."""

    precision: str
    ours: Pass
    bare_s: float
    bare_tokens: int


async def measure(
    shape: Shape, precision: str, rounds: int, messages: int, at_a_time: int, folder: Path
) -> list[Round]:
    """All rounds at one precision."""
    policies = load_policies("", "community").by_id
    policy = policies["community"]
    options = options_for(shape, precision, at_a_time, 0.44)
    ours = Ours(open_checkpoint(str(folder), weights=False), shape, options)
    say(f"{precision}: starting ours")
    await ours.engine.start()
    say(f"{precision}: starting bare vLLM")
    bare = await asyncio.to_thread(Bare, folder, options)
    found = []
    try:
        # The policy gets into both prefix caches, and kernels are compiled, before anything is timed.
        for asked in ASKED:
            await ours.judge_all(asked, policy, draw(64, 0, policies))
            await asyncio.to_thread(bare.repeat, ours.calls)
        for number in range(1, rounds + 1):
            for place, asked in enumerate(ASKED):
                seed = number * len(ASKED) + place
                events = draw(max(16, messages // _DIVISOR[asked]), seed, policies)
                mine = await ours.judge_all(asked, policy, events)
                bare_s, bare_tokens = await asyncio.to_thread(bare.repeat, ours.calls)
                found.append(Round(precision, mine, bare_s, bare_tokens))
                say(
                    f"{precision}, round {number}, {asked}: ours {mine.messages / mine.seconds:,.0f}/s,"
                    f" bare vLLM {mine.messages / bare_s:,.0f}/s"
                )
    finally:
        bare.stop()
        await ours.engine.close()
    return found


def report(shape: Shape, rounds: Sequence[Round], peaks: dict[str, float], at_a_time: int) -> None:
    """The table: medians over the rounds, and of the ratios within each round."""
    rows = []
    for precision, peak in peaks.items():
        for asked in ASKED:
            turns = [one for one in rounds if one.precision == precision and one.ours.asked == asked]
            passes = [one.ours for one in turns]
            speed = [one.messages / one.seconds for one in passes]
            read = [one.prompt_tokens / one.seconds for one in passes]
            written = [one.completion_tokens / one.seconds for one in passes]
            share = ratios([one.bare_s for one in turns], [one.seconds for one in passes])
            roof = [one.operations / one.seconds / peak for one in passes]
            rows.append(
                (
                    f"{precision}, {asked}",
                    middle(speed, 1),
                    f"{median(read):,.0f}",
                    f"{median(written):,.0f}",
                    middle(share, 2),
                    middle(roof, 3),
                    f"{median(one.thought / one.messages for one in passes):.0%}",
                    f"{median(one.cached_tokens / one.prompt_tokens for one in passes):.0%}",
                )
            )
    header = (
        "precision, way",
        "decisions/s",
        "tokens/s, read",
        "tokens/s, written",
        "beside bare vLLM",
        "of the roofline",
        "thought",
        "of the prompt cached",
    )
    facts = machine_facts("torch") | _chip()
    roofs = ", ".join(f"{peak / 1e12:,.2f} TFLOP/s in {name}" for name, peak in peaks.items())
    markdown = (
        f"# Speed of the guard: shape {shape.name}\n\n"
        + table(header, rows)
        + f"\nMedians and ranges of rounds in turns; {at_a_time} at a time; random weights. Operations as in"
        f" `benchmarks/gpu/work.py`; the roof is the best rate of one large matrix product on the same chip:"
        f" {roofs}. Wanted: 0.95 of bare vLLM, 0.6 of the roofline in `fast`.\n" + facts_line(facts)
    )
    write_results(f"gpu_{shape.name}", markdown, {"facts": facts, "peaks": peaks, "rounds": list(rounds)})


def _chip() -> dict[str, str]:
    import torch

    return {"GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-7b")
    parser.add_argument("--precision", action="append", choices=("bfloat16", "fp8", "float32"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=4000, help="of a pass in `fast`")
    parser.add_argument("--at-a-time", type=int, default=256)
    chosen = parser.parse_args()
    shape, precisions = SHAPES[chosen.shape], chosen.precision or ["bfloat16", "fp8"]
    peaks = {precision: measured_peak(precision) for precision in precisions}
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(shape, Path(folder) / "model")
        for precision in precisions:
            one = measure(shape, precision, chosen.rounds, chosen.messages, chosen.at_a_time, model)
            rounds += asyncio.run(one)
    report(shape, rounds, peaks, chosen.at_a_time)


if __name__ == "__main__":
    main()
