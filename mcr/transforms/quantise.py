"""Weights of two or three values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.weightspace.layout import Layout


@dataclass(frozen=True)
class Quantise:
    """Each weight tensor becomes the nearest one, in the l2 norm, with values -s and s, or -s, 0 and s, s its own.

    Weights are the parameters with at least two dimensions: biases and the parameters of normalisations stay. With two
    values s is the mean size of the weights (Rastegari et al. 2016). With three the k largest weights keep their
    sign and s is their mean size, for the k that makes (sum of their sizes)^2 / k largest (Yin et al. 2018,
    BinaryRelax); the usual rule, a threshold at 0.7 of the mean size, only comes near it. Gradients pass straight
    through to the blended weights.

    Attributes:
        levels: How many values, 2 or 3.

    Raises:
        InputError: For another number.
    """

    levels: int

    def __post_init__(self) -> None:
        if self.levels not in (2, 3):
            raise InputError(f"transform=quantise: levels={self.levels} must be 2 or 3")

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Round the weights of theta (P,); a weight of 0 counts as positive, of equal ones the first is kept.

        >>> theta, layout = torch.tensor([3.0, -1, 2, -0.5, 0.3]), Layout(("weight", "bias"), ((2, 2), (1,)), False)
        >>> Quantise(3).apply_(theta, layout)
        >>> theta.tolist()
        [2.5, 0.0, 2.5, 0.0, 0.30000001192092896]
        """
        for view in layout.views(theta).values():
            if view.dim() >= 2 and view.numel():
                view.copy_(self._nearest(view.flatten()).view(view.shape))

    def _nearest(self, weights: Tensor) -> Tensor:
        # In float64 sums and means of equal float32 numbers are exact: what is rounded, rounded again, stays.
        sizes = weights.abs().double()
        signs = torch.where(weights < 0, -1.0, 1.0).to(weights)
        if self.levels == 2:
            return signs * sizes.mean().to(weights)
        ordered, order = sizes.sort(descending=True, stable=True)
        sums = ordered.cumsum(0)
        counts = torch.arange(1, len(sums) + 1, device=sums.device)
        kept = int((sums.square() / counts).argmax()) + 1
        rest = torch.ones_like(signs, dtype=torch.bool).index_fill(0, order[:kept], False)
        return (signs * (sums[kept - 1] / kept).to(weights)).masked_fill(rest, 0)

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Straight through: the gradient (P,) stays as it is."""
