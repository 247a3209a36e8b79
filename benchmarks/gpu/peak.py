"""What the chip can multiply: the roof that a share of the roofline is measured against.

    python -m benchmarks.gpu.peak bfloat16

Prints the best of ten rates of one large product of random matrices, in operations a second. A process of its
own, so that nothing of it stays in the memory that vLLM counts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

_SIZE: Final = {True: 8192, False: 2048}
"""Of the square matrices, on a GPU and on a CPU: large enough that starting the product costs nothing."""
_TRIES: Final = 10
_TIMED: Final = 10


def measured_peak(precision: str) -> float:
    """Operations a second in `bfloat16`, `float32` or `fp8`, as measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu.peak", precision]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _best(precision: str) -> float:
    import torch

    gpu = torch.cuda.is_available()
    size = _SIZE[gpu]
    place = torch.device("cuda" if gpu else "cpu")
    product = _product(torch, precision, size, place)
    best = 0.0
    for _ in range(_TRIES):
        product()
        if gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(_TIMED):
            product()
        if gpu:
            torch.cuda.synchronize()
        best = max(best, _TIMED * 2 * size**3 / (time.perf_counter() - started))
    return best


def _product(torch: Any, precision: str, size: int, place: Any) -> Callable[[], Any]:
    one, other = (torch.randn(size, size, device=place) for _ in range(2))
    if precision != "fp8":
        one, other = (matrix.to(getattr(torch, precision)) for matrix in (one, other))
        return lambda: one @ other
    eight = torch.float8_e4m3fn
    scale = torch.ones((), device=place)
    left, right = one.to(eight), other.to(eight).t().contiguous().t()
    return lambda: torch._scaled_mm(left, right, scale, scale, out_dtype=torch.bfloat16)


if __name__ == "__main__":
    sys.stdout.write(f"{_best(sys.argv[1])}\n")
