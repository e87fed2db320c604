"""The precision of a network's passes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "tf32", "bf16")
ATTACK_PRECISIONS = ("fp32", "bf16")  # gradients are taken outside of the pass, where TF32 is off
Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """The context in which a network computes at that precision: as it is, with TF32, or under autocast to bfloat16."""
    rounded = _tf32() if precision == "tf32" else nullcontext()
    with rounded, torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def full_float32() -> None:
    """Let float32 be float32 on every device: TF32 keeps 10 bits, so numbers of record would depend on the device."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def set_float32(precision: Precision) -> None:
    """For a whole training: matrix products and convolutions of CUDA devices in TF32 for "tf32", else in float32."""
    full_float32()
    if precision == "tf32":
        _allow_tf32(True, True)


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(True, True)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(products: bool, convolutions: bool) -> None:
    # Of CUDA alone: torch's common switch would also let some CPUs round.
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def widest(network: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """A twin of the network in float64 and the images so; both as they are where torch cannot differentiate the twin.

    Args:
        network: In evaluation mode.
        images: (N, D, H, W).
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            twin, points = copy.deepcopy(network).double(), images.detach().to(torch.float64, copy=True)
            leaf = points[:1].clone().requires_grad_(True)
            torch.autograd.grad(twin(leaf).sum(), leaf)
    except Exception:  # a kernel of the user's own may know one type only
        return network, images
    return twin, points
