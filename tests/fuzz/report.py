"""The table of a run, and its place in the page of the docs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- fuzz: written by `make fuzz` -->"
END: Final = "<!-- end of fuzz -->"


@dataclass
class Score:
    """What the inputs of one target did. `wall_s` counts their making too, `seconds` the decoder alone."""

    inputs: int = 0
    accepted: int = 0
    failed: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0
    slowest_s: float = 0.0
    slowest_bytes: int = 0
    largest_bytes: int = 0
    peak_bytes: int = 0


def table(scores: dict[str, Score]) -> str:
    """One row per decoder, in Markdown."""
    rows = [
        "| Decoder | Inputs | Accepted | Exceptions | Seconds | Mean µs | Worst ms | of bytes | Peak |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, score in scores.items():
        cells = (
            name,
            f"{score.inputs:,}",
            f"{score.accepted:,}",
            str(score.failed),
            f"{score.wall_s:.0f}",
            f"{score.seconds / max(1, score.inputs) * 1e6:.1f}",
            f"{score.slowest_s * 1000:.1f}",
            f"{score.slowest_bytes:,}",
            f"{score.peak_bytes / 2**20:.0f} MiB",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(scores: dict[str, Score], seed: int, first: int, following: int, seconds: float) -> str:
    """The run in one sentence."""
    failed = sum(score.failed for score in scores.values())
    largest = max(score.largest_bytes for score in scores.values())
    return (
        f"seed {seed}, inputs {first} to {following - 1}, {seconds:.0f} s; {failed} exceptions; "
        f"the largest input had {largest:,} bytes"
    )


def write_into(page: Path, text: str) -> None:
    """Put the text between the two markers of the page. Raises ValueError when they are not there."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: expected the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
