"""Control points begin as blends of the networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from mcr.starts.start import Known
from mcr.weightspace.subspace import control_points


@dataclass(frozen=True)
class Blend:
    """As the curve says: evenly on the straight line, on the bilinear patch, on the plane."""

    def __call__(self, known: Known) -> Iterable[Tensor]:
        """K vectors (P,), made as they are asked for."""
        return control_points(known.curve, known.ends)
