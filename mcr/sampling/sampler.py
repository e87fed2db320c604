"""What every sampler is: places of a curve's domain, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from mcr.curves.curve import Curve

Walk = Callable[[float], Tensor]
"""The progress of training in (0, 1) to the next place, float64 (dim,)."""


class Sampler(Protocol):
    """The law of the places at which a subspace is fitted (q of Garipov et al. 2018, eq. 1)."""

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """The places of an epoch: called anew for each, so that an interrupted training goes on with the same places.

        Args:
            curve: Has the domain.
            draw: All that is drawn comes from it.
        """
