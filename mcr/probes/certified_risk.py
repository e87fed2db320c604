"""Certified risk."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.bounds.interval import margins
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric


@dataclass(frozen=True)
class CertifiedRisk:
    """What no attack in a box around each image can change: see ``margins``, taken in float64.

    Attributes:
        eps: Radius of the box in the maximum norm, in [0, 1] pixel units.
        least: An image counts from this margin on, so that no rounding of a float32 pass can undo what is certain.

    Raises:
        InputError: For a number out of its range.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", "share", "higher", "accuracy"),
        Metric("margin", "1", "higher", ""),
    )
    draws: ClassVar[str] = "nothing"

    eps: float
    least: float

    def __post_init__(self) -> None:
        if self.eps < 0 or self.least < 0:
            raise InputError(f"probe=certified_risk: eps={self.eps} >= 0 and least={self.least} >= 0 needed")

    @torch.no_grad()
    def refuse(self, network: nn.Module, image: Tensor) -> None:
        """Raises InputError for a network without bounds; from an image (1, D, H, W)."""
        margins(network.eval(), image, torch.zeros(1, dtype=torch.long), self.eps)

    @torch.no_grad()
    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """Whether each image is certainly right, and by which margin of logits at least; each (N,)."""
        exact = copy.deepcopy(network).double().eval()
        found = []
        for images, labels in data:
            least = margins(exact, images.double(), labels, self.eps)
            found.append(least.scatter(1, labels[:, None], torch.inf).amin(1).cpu())
        margin = torch.cat(found)
        return {"accuracy": (margin > self.least).float(), "margin": margin.float()}
