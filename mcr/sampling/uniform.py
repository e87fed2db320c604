"""Uniform places."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mcr.curves.curve import Curve
from mcr.sampling.sampler import Walk


@dataclass(frozen=True)
class Uniform:
    """Each place uniform in the domain and independent of all others (Garipov et al. 2018, eq. 2)."""

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """See Sampler."""
        return lambda progress: curve.sample(draw)
