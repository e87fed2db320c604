"""Does an attack follow the curvature?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision
from mcr.probes.input_hessian import curvature
from mcr.probes.robust_risk import robust_risk


@dataclass(frozen=True)
class Alignment:
    """|cos| between the attack's perturbation and the eigenvector of the largest eigenvalue, image by image.

    Zhao et al. (2020, proposition 1) assume that the perturbation follows the eigenvector.

    Attributes:
        attack: White-box.
        precision: Of the attack's own passes; see ``robust_risk``.
        steps: Hessian-vector products of Lanczos, where the network is not piecewise linear.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("cosine", "1", "neither", ""),)
    draws: ClassVar[str] = "attack"

    attack: Evasion
    precision: Precision
    steps: int

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``cosine`` (N,)."""
        attacked = robust_risk(network, data, self.attack, draw, self.precision, keep=len(data.images))
        clean = torch.cat([images for images, _ in data]).cpu()
        return {"cosine": curvature(network, data, draw, self.steps).alignment(attacked.images - clean)}
