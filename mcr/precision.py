"""The precision of a network's passes."""

from __future__ import annotations

from typing import Literal

import torch

PRECISIONS = ("fp32", "bf16")
Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network computes at that precision: as it is, or under autocast to bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
