"""Weights of few values."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform

MOST = 15  # values: four bits


@dataclass(frozen=True)
class Quantise(Transform):
    """Each weight tensor becomes the nearest one, in the l2 norm, whose values are few: -s and s, or k s for |k| <= m.

    Weights are the parameters with at least two dimensions: biases and the parameters of normalisations stay; each
    tensor has an s of its own. With two values s is the mean size of the weights (Rastegari et al. 2016). With an odd
    number s and all k are found exactly, where published code has rules that only come near it, such as a threshold at
    0.7 of the mean size for three. Gradients pass straight through to the blended weights.

    In the first part of training weights are only drawn to these values: they are (w + eta Q(w)) / (1 + eta), which
    minimises |x - w|^2 + eta |x - Q(w)|^2, where eta grows geometrically (Yin et al. 2018, BinaryRelax).

    Attributes:
        levels: How many values: 2, or an odd number from 3 to 15.
        relaxed: Share of training for which they are only drawn, in [0, 1]; 0 for never (Courbariaux et al. 2015).
        weakest: eta at the beginning, above 0.
        strongest: eta at the end of that share, at least as large.

    Raises:
        InputError: For another number.
    """

    levels: int
    relaxed: float
    weakest: float
    strongest: float

    def __post_init__(self) -> None:
        if self.levels != 2 and self.levels not in range(3, MOST + 1, 2):
            raise InputError(f"transform=quantise: levels={self.levels} must be 2, or an odd number from 3 to {MOST}")
        if not (0 <= self.relaxed <= 1 and 0 < self.weakest <= self.strongest < float("inf")):
            raise InputError(
                f"transform=quantise: relaxed={self.relaxed} in [0, 1] and "
                f"0 < weakest={self.weakest} <= strongest={self.strongest} needed"
            )

    def at(self, progress: float) -> Transform:
        """Where the weights are only drawn to their values, what does that."""
        if progress >= self.relaxed:
            return self
        return Drawn(self, self.weakest * (self.strongest / self.weakest) ** (progress / self.relaxed))

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Round the weights of theta (P,); a weight of 0 counts as positive, of equal ones the first is kept.

        >>> theta, layout = torch.tensor([3.0, -1, 2, -0.5, 0.3]), Layout(("weight", "bias"), ((2, 2), (1,)), False)
        >>> Quantise(3, 0.0, 1.0, 1.0).apply_(theta, layout)
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
        # As s falls from infinity, each weight's multiple grows by one at |w| / (k - 1/2). Between two such steps the
        # best s is a / b, a the sum of |w| k and b that of k^2, and the square of the distance is |w|^2 - a^2 / b.
        steps = torch.arange(1, self.levels // 2 + 1, device=sizes.device, dtype=torch.float64)
        falling, order = (sizes / (steps[:, None] - 0.5)).flatten().sort(descending=True, stable=True)
        a = sizes[order % len(sizes)].cumsum(0)
        b = (2 * steps[order // len(sizes)] - 1).cumsum(0)
        done = int((a.square() / b).argmax()) + 1
        multiples = torch.zeros_like(sizes).index_add(0, order[:done] % len(sizes), torch.ones_like(falling[:done]))
        # So many digits that every multiple of s is exact: what is rounded, rounded again, stays here as well.
        digits = 2.0 ** (1 - log2(torch.finfo(weights.dtype).eps) - (self.levels // 2 - 1).bit_length())
        mantissa, exponent = torch.frexp(a[done - 1] / b[done - 1])
        scale = torch.ldexp((mantissa * digits).round() / digits, exponent)
        return signs * (multiples * scale).to(weights) + 0  # -0 becomes 0

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Straight through: the gradient (P,) stays as it is."""


@dataclass(frozen=True)
class Drawn(Transform):
    """Weights between their own values and the nearest quantised ones.

    Attributes:
        towards: What quantises.
        eta: 0 would leave the weights as they are, infinity quantise them.
    """

    towards: Quantise
    eta: float

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Move theta (P,) by eta / (1 + eta) of the way."""
        quantised = theta.clone()
        self.towards.apply_(quantised, layout)
        theta.lerp_(quantised, self.eta / (1 + self.eta))

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Straight through: the gradient (P,) stays as it is."""
