"""Places of low discrepancy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from mcr.curves.curve import Curve


@dataclass(frozen=True)
class Sobol:
    """A scrambled Sobol' sequence (Owen 1998), anew in each epoch: places fill the domain evenly over the steps."""

    def draw(self, curve: Curve, together: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Each float64 (dim,)."""
        seed = int(torch.randint(2**31, (), generator=generator))
        engine = SobolEngine(curve.dim, scramble=True, seed=seed)
        while True:
            yield curve.spread(engine.draw(1, dtype=torch.float64)[0])
