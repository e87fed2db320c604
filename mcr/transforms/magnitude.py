"""Unstructured sparsity by magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform


@dataclass(frozen=True)
class Magnitude(Transform):
    """The smallest share of all weights becomes zero (Han et al. 2015), one threshold for the whole network.

    Weights are the parameters with at least two dimensions: biases and the parameters of normalisations stay.
    Gradients pass straight through to the blended weights, as if nothing had been done (Bengio et al. 2013), so that
    a weight that is zero now may return (Lin et al. 2020, "Dynamic model pruning with feedback").

    Attributes:
        share: Of the weights, in [0, 1); 0 leaves theta as it is.

    Raises:
        InputError: For another share.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"transform=magnitude: share={self.share} must lie in [0, 1)")

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Set exactly floor(share n) of the n weights of theta (P,) to zero, share as it is written in decimals.

        Of equal ones the first goes, in the order of the layout and of a tensor's indices, whatever the memory format.

        >>> theta, layout = torch.tensor([3.0, -1, 2, -4, 0.5]), Layout(("weight", "bias"), ((2, 2), (1,)), False)
        >>> Magnitude(0.5).apply_(theta, layout)
        >>> theta.tolist()
        [3.0, 0.0, 0.0, -4.0, 0.5]
        """
        views = [view for view in layout.views(theta).values() if view.dim() >= 2]
        # 0.29 * 100 is 28.999999999999996 in floating point.
        count = floor(Fraction(str(self.share)) * sum(view.numel() for view in views))
        if not count:
            return
        sizes = torch.cat([view.abs().flatten() for view in views])
        # Selection takes a seventh of the time of sorting; what equals the threshold is counted off.
        threshold = sizes.kthvalue(count).values
        gone = sizes < threshold
        equal = (sizes == threshold).nonzero().flatten()
        gone[equal[: count - int(gone.sum())]] = True
        for view, mask in zip(views, gone.split([view.numel() for view in views]), strict=True):
            view.masked_fill_(mask.view(view.shape), 0)

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Straight through: the gradient (P,) stays as it is."""
