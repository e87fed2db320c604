"""The loss that objectives, attacks and probes share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the log-probability of the label, in nats: logits (B, C), labels (B,) to (B,), never below float32.

    Under autocast logits come in bfloat16, whose three digits would drown small losses.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(wide, labels, reduction="none")
