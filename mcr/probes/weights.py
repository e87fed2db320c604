"""How sparse a network is, and of how few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric


@dataclass(frozen=True)
class Weights:
    """What is left of the weights of a sparse or quantised network: the parameters with at least two dimensions.

    No image changes it: each gets the same numbers, and their standard errors are nothing.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("density", "share", "neither", "weights that are not zero"),
        Metric("least_density", "share", "neither", ""),
        Metric("values", "1", "neither", ""),
    )
    draws: ClassVar[str] = "nothing"

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """Each (N,): the share of all weights that are not zero, that of the tensor with the smallest such share, and
        the number of different values of the tensor with the most."""
        tensors = [weight.detach() for weight in network.parameters() if weight.dim() >= 2]
        left = torch.tensor([float(weight.count_nonzero()) for weight in tensors], dtype=torch.float64)
        sizes = torch.tensor([float(weight.numel()) for weight in tensors], dtype=torch.float64)
        found = {
            "density": float(left.sum() / sizes.sum()),
            "least_density": float((left / sizes).min()),
            "values": float(max(len(weight.unique()) for weight in tensors)),
        }
        count = len(data.labels)
        return {name: torch.full((count,), value, dtype=torch.float64) for name, value in found.items()}
