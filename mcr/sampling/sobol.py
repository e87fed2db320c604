"""A low-discrepancy sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mcr.curves.curve import Curve
from mcr.sampling.sampler import Walk

SEEDS = 2**31  # how many scramblings there are to draw from


@dataclass(frozen=True)
class Sobol:
    """The sequence of Sobol (1967), in each epoch scrambled anew (Owen 1995; Matousek 1998), folded onto the domain.

    Each place alone is uniform; the first n leave smaller gaps than independent ones, for any n.
    """

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """See Sampler."""
        seed = int(torch.randint(SEEDS, (), generator=draw))
        engine = torch.quasirandom.SobolEngine(curve.dim, scramble=True, seed=seed)
        return lambda progress: curve.folded(engine.draw(1, dtype=torch.float64)[0])
