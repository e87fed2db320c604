"""Uniform places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.curve import Curve


@dataclass(frozen=True)
class Uniform:
    """Independent places, uniform in the domain (Garipov et al. 2018, eq. 2)."""

    def draw(self, curve: Curve, together: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Each float64 (dim,)."""
        while True:
            yield curve.sample(generator)
