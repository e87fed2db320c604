"""The precision of a network's passes."""

from __future__ import annotations

from typing import Literal

import torch

PRECISIONS = ("fp32", "bf16")
Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network computes at that precision: as it is, or under autocast to bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def full_float32() -> None:
    """Let float32 be float32 on every device: TF32 keeps 10 bits, so numbers of record would depend on the device."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
