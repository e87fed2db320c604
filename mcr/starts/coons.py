"""The Coons patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bilinear import bilinear
from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.starts.start import Material


@dataclass(frozen=True)
class Coons:
    """The bilinearly blended Coons patch of four fitted curves (Coons 1967; discrete: Farin 2002, ch. 22.2).

    Boundary control points are those of the curves, so that a surface begins with their low loss at its edges. Inner
    ones are the two ruled surfaces between opposite curves, added, less the bilinear patch of the corners; of straight
    edges that is the bilinear patch itself.
    """

    def points(
        self, curve: Curve, ends: Sequence[Tensor], edges: Sequence[Sequence[Tensor]], material: Material
    ) -> Iterator[Tensor]:
        """See Start; edges from corner to corner at u = 0 (along v), v = 0 (along u), v = 1 and u = 1."""
        if not isinstance(curve, BezierSurface):
            raise InputError(f"start=coons is of curve=bezier_surface, not of {type(curve).__name__}")
        left, bottom, top, right = edges
        m, n = curve.sides
        for i, j in product(range(m), range(n)):
            if i in (0, m - 1):
                yield (left if i == 0 else right)[j]
            elif j in (0, n - 1):
                yield (bottom if j == 0 else top)[i]
            else:
                u, v = i / (m - 1), j / (n - 1)
                ruled = torch.lerp(left[j], right[j], u) + torch.lerp(bottom[i], top[i], v)
                for share, end in zip(bilinear(u, v), ends, strict=True):
                    ruled.sub_(end, alpha=share)
                yield ruled
