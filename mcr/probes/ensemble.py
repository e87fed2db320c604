"""Several networks that answer together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of the members' probabilities; its output is their logarithm, so that losses and attacks fit.

    Args:
        members: Networks: images (B, D, H, W) to logits (B, C).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, C)."""
        answers = torch.stack([member(images).float().log_softmax(1) for member in self.members])
        return torch.logsumexp(answers, 0) - math.log(len(self.members))
