"""What the machine can do at most, and how much work a job is: the floor under its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Jobs = dict[str, tuple[Callable[[], Any], torch.dtype]]
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


def convolution(dtype: torch.dtype, device: str = "cpu", tries: int = 7) -> float:
    """The same of a 3x3 convolution of 128 to 128 channels at 16x16 without padding, channels_last."""
    images, kernels = torch.randn(128, 128, 18, 18, device=device), torch.randn(128, 128, 3, 3, device=device)
    images, kernels = (one.to(dtype, memory_format=torch.channels_last) for one in (images, kernels))
    best = float("inf")
    for _ in range(tries):
        _wait(device)
        begin = time.perf_counter()
        torch.nn.functional.conv2d(images, kernels)
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * 128 * 128 * 16 * 16 * 128 * 9 / best


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


class Work(TorchDispatchMode):
    """Counts what is done inside it.

    torch's own counter also follows modules, by hooks that ``torch.autograd.grad`` does not bear.

    Attributes:
        operations: Floating-point operations of matrix products and convolutions, padding counted as work.
        moved: Bytes of all tensors that operators take and give, each once an operator: what memory must carry where
            nothing stays in a cache and no two operators are fused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.moved = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=output)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, torch.Tensor)]
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return output


def work(job: Callable[[], Any]) -> Work:
    """What a job does."""
    with Work() as found:
        job()
    return found


def floors(jobs: Jobs) -> dict[str, str]:
    """For each job what it does, and the milliseconds that the machine's best rates would need for it.

    The best rate of arithmetic is that of a large matrix product or of a large convolution, whichever is higher.

    Args:
        jobs: Name to a call and the type in which its products are computed.
    """
    kinds = {dtype for _, dtype in jobs.values()}
    peak = {dtype: max(gemm(dtype, tries=25), convolution(dtype, tries=25)) for dtype in sorted(kinds, key=str)}
    rate = bandwidth()
    found = {f"peak, {str(dtype).removeprefix('torch.')}": f"{best / 1e9:.0f} GFLOP/s" for dtype, best in peak.items()}
    found["peak, memory"] = f"{rate / 1e9:.0f} GB/s"
    for name, (job, dtype) in jobs.items():
        done = work(job)
        found[f"work, {name}"] = (
            f"{done.operations / 1e9:.1f} GFLOP, padding counted: {1000 * done.operations / peak[dtype]:.1f} ms at the "
            f"peak; {done.moved / 1e9:.2f} GB through memory, unfused: {1000 * done.moved / rate:.1f} ms"
        )
    return found


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
