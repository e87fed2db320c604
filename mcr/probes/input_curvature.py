"""Curvature of the loss in the input, as a probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.probes.input_hessian import curvature

METHODS = ("exact", "lanczos", "differences")  # by their number in a table


@dataclass(frozen=True)
class InputCurvature:
    """The largest eigenvalue of the loss's Hessian in the image, and the length of its gradient there.

    Attributes:
        steps: Hessian-vector products of Lanczos, where the network is not piecewise linear.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("eigenvalue", "1", "lower", "input eigenvalue"),
        Metric("gradient_norm", "1", "lower", ""),
        Metric("residual", "1", "neither", ""),
        Metric("relative_residual", "1", "neither", ""),
        Metric("method", "1", "neither", ""),
    )
    draws: ClassVar[str] = "curvature"

    steps: int

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``eigenvalue``, ``gradient_norm``, ``residual`` and ``relative_residual``, ``method``, each (N,).

        The method is 0 where it is exact (then the residuals are 0), 1 for Lanczos, 2 for Lanczos with differences of
        the gradient, where torch cannot differentiate the network twice.
        """
        found = curvature(network, data, draw, self.steps)
        return {
            "eigenvalue": found.eigenvalue,
            "gradient_norm": found.gradient_norm,
            "residual": found.residual,
            "relative_residual": found.relative_residual,
            "method": torch.full_like(found.residual, METHODS.index(found.method)),
        }
