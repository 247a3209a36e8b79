"""Whether a server with calls goes on: its port answers `/health` also when its core hangs.

The tokens that vLLM counts in `/metrics` are counted with every step of the core. A core that counts none
while it has calls of ours, for longer than a step can take, hangs.
"""

from __future__ import annotations

from typing import Final

from guard.serving.remote_endpoint import Broken, Endpoint, Unreachable

_COUNTED: Final = (b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total")
# Bytes of `/metrics`: some hundred families.
_MOST_BYTES: Final = 8_388_608
# From which share of the hang time-out on it is asked.
_FROM: Final = 0.25
# For which share of the hang time-out the count has to have stood still.
_STILL: Final = 0.5


class Silence:
    """Watches one server. `hang_timeout_s`: for how long it may do nothing."""

    def __init__(self, hang_timeout_s: float) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._count: float | None = None
        self._since_s = 0.0

    async def hangs(self, endpoint: Endpoint, now_s: float, timeout_s: float) -> bool:
        """Whether it hangs; False where that cannot be known."""
        silence_s = endpoint.silence_s(now_s)
        if silence_s < _FROM * self._hang_timeout_s:
            self._count = None
            return False
        count = await _tokens(endpoint, timeout_s)
        if count is None or count != self._count:
            self._count, self._since_s = count, now_s
            return False
        still_s = now_s - self._since_s
        return silence_s >= self._hang_timeout_s and still_s >= _STILL * self._hang_timeout_s


async def _tokens(endpoint: Endpoint, timeout_s: float) -> float | None:
    """Tokens that it has read and written since its start; None where it does not tell."""
    try:
        status, content = await endpoint.get("/metrics", _MOST_BYTES, timeout_s)
    except (Unreachable, Broken, TimeoutError):
        return None
    return counted(content) if status == 200 else None


def counted(metrics: bytes) -> float | None:
    """The sum of the samples that count tokens, in Prometheus' text format; None without any."""
    found = []
    for line in metrics.splitlines():
        if line.startswith(_COUNTED):
            try:
                found.append(float(line.rpartition(b" ")[2]))
            except ValueError:
                return None
    return sum(found) if found else None
