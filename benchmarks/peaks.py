"""What the machine can do at most, and how much work a job is: the floor under its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

SIDE = 2048  # of the square matrices


def gemm(dtype: torch.dtype, device: str = "cpu", side: int = SIDE, tries: int = 7) -> float:
    """Floating-point operations per second of a large matrix product, the best of several."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        _wait(device)
        begin = time.perf_counter()
        left @ right
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best


def bandwidth(device: str = "cpu", numbers: int = 2**26, tries: int = 7) -> float:
    """Bytes per second of a = b + s c on large float32 vectors, read and written, the best of several."""
    a, b, c = (torch.zeros(numbers, device=device) for _ in range(3))
    best = float("inf")
    for _ in range(tries):
        _wait(device)
        begin = time.perf_counter()
        torch.add(b, c, alpha=2.0, out=a)
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 12 * numbers / best


def operations(job: Callable[[], Any]) -> int:
    """Floating-point operations of a job's matrix products and convolutions, padding counted as work."""
    with _Counter() as counter:
        job()
    return counter.count


class _Counter(TorchDispatchMode):
    """torch's own counter also follows modules, by hooks that ``torch.autograd.grad`` does not bear."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=output)
        return output


def floors(jobs: dict[str, tuple[Callable[[], Any], torch.dtype]]) -> dict[str, str]:
    """For each job its operations and the milliseconds that the machine's matrix products would need for them."""
    kinds = {dtype for _, dtype in jobs.values()}
    peak = {dtype: gemm(dtype, tries=25) for dtype in sorted(kinds, key=str)}
    found = {f"peak, {str(dtype).removeprefix('torch.')}": f"{rate / 1e9:.0f} GFLOP/s" for dtype, rate in peak.items()}
    for name, (job, dtype) in jobs.items():
        count = operations(job)
        found[f"floor, {name}"] = f"{count / 1e9:.1f} GFLOP, {1000 * count / peak[dtype]:.1f} ms"
    return found


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
