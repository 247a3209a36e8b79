"""What a plan is asked for: the traffic, and how the platform shall be built."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.identifiers import Mode
from workers.errors import UsageError

# Above any traffic; a typing error is more likely.
_MOST_PER_SECOND: Final = 10_000_000.0
# Below any as well: a message in eleven days. Smaller ones overflow what is divided by them.
_LEAST: Final = 1e-6
# A thousand years.
_LONGEST_S: Final = 31_536_000_000.0
# For currencies of small units.
_HIGHEST_PRICE: Final = 1e12
# The largest integer that an error repeats.
_SHOWN: Final = 10**30
# Of the longest prompts that models read.
_MOST_TOKENS: Final = 1_000_000


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Raises `UsageError` naming the option for a value that cannot be meant."""

    messages_per_second: float
    """On average over a day."""
    peak_factor: float = 2.0
    """The busiest minutes, as a multiple of the average."""
    hit_rate: float = 0.0
    """Share of judged messages whose verdict is remembered."""
    mode: Mode = "fast"
    policy_tokens: int = 150
    """Task and policy, the longest that is in use."""
    message_tokens: int = 40
    context_tokens: int = 0
    in_process: bool = True
    """Whether each worker runs its own vLLM; else workers and servers are counted apart."""
    gpus_per_guard: int = 1
    """Tensor parallel size times data parallel size."""
    decisions_per_second_per_gpu: float | None = None
    """Measured in the mode of the plan; instead of the two below and of the curves."""
    fast_per_second_per_gpu: float | None = None
    think_per_second_per_gpu: float | None = None
    utilisation: float = 0.7
    """Share of what is there that the peak may take."""
    spare: int = 1
    """Workers, and guards, that may be away at the peak."""
    growth: float = 2.0
    """How many times as many workers the partitions shall do for."""
    ttl_s: int = 86_400
    """Lifetime of a verdict in Redis."""
    events_retention_s: float = 604_800.0
    decisions_retention_s: float = 7_776_000.0
    copies: int = 3
    """Replication factor."""
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        self._within("messages_per_second", _LEAST, _MOST_PER_SECOND)
        self._within("peak_factor", 1, 1000)
        self._within("hit_rate", 0, 1)
        self._within("utilisation", 0.01, 1)
        self._within("growth", 1, 100)
        self._within("spare", 0, 1000)
        self._within("gpus_per_guard", 1, 1024)
        self._within("copies", 1, 100)
        for name in ("policy_tokens", "message_tokens", "context_tokens"):
            self._within(name, 0, _MOST_TOKENS)
        for name in ("ttl_s", "events_retention_s", "decisions_retention_s"):
            self._within(name, 0, _LONGEST_S)
        for name in (
            "decisions_per_second_per_gpu",
            "fast_per_second_per_gpu",
            "think_per_second_per_gpu",
        ):
            self._within(name, _LEAST, _MOST_PER_SECOND)
        self._within("price_per_gpu_hour", 0, _HIGHEST_PRICE, above=True)
        if self.decisions_per_second_per_gpu and (
            self.fast_per_second_per_gpu or self.think_per_second_per_gpu
        ):
            raise UsageError(
                "--decisions-per-second-per-gpu: expected it alone, or --fast-per-second-per-gpu and "
                "--think-per-second-per-gpu in its place"
            )

    def _within(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        """Of a field that may be None: not given."""
        value = getattr(self, name)
        if value is None:
            return
        # Compared, not converted: an integer may be too large for a float. NaN is within no limits.
        if not ((value > low if above else value >= low) and value <= high):
            limits = f"{'above' if above else 'from'} {low:g} to {high:,.0f}"
            shown = f"{value:g}" if abs(value) <= _SHOWN or isinstance(value, float) else "a longer one"
            raise UsageError(f"--{name.replace('_', '-')}: expected a number {limits}, not {shown}")
