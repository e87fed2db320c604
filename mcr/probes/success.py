"""How often images get a label that somebody wants."""

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
class Success:
    """The share of images that get the label which the data hold: an attacker's, such as that of injected errors.

    Attributes:
        precision: Of the passes, "fp32" or "bf16" (autocast).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("success", "share", "lower", "attack success"),)
    draws: ClassVar[str] = "nothing"

    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``success`` (N,)."""
        with autocast(self.precision, data.images.device):
            return {"success": risk(network, data)[1]}
