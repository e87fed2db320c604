"""Accuracy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision, autocast
from mcr.probes.risk import risk


@dataclass(frozen=True)
class Accuracy:
    """The share of images that get their label, where no loss is asked: of images that an attacker had in mind.

    Attributes:
        precision: Of the passes, "fp32" or "bf16" (autocast).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy", "share", "higher", ""),)
    draws: ClassVar[str] = "nothing"

    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``accuracy`` (N,)."""
        with autocast(self.precision, data.images.device):
            return {"accuracy": risk(network, data)[1]}
