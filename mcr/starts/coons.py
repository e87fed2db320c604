"""Control points of a surface begin on a Coons patch between fitted curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.bezier_surface import BezierSurface
from mcr.errors import InputError
from mcr.starts.start import Known

ACROSS, ALONG = ((0, 2), (1, 3)), ((0, 1), (2, 3))  # the edges v = 0 and v = 1, then u = 0 and u = 1


@dataclass(frozen=True)
class Coons:
    """The discrete Coons patch (Farin 1992): its edges are Bezier curves that were fitted before, work already paid.

    With s = i / (m - 1), t = j / (n - 1) an inner control point is
    (1-s) p_0j + s p_mj + (1-t) p_i0 + t p_in less the bilinear blend of the four corners.
    """

    def __call__(self, known: Known) -> Iterable[Tensor]:
        """m n vectors (P,). Raises InputError for what is no Bezier surface."""
        if not isinstance(known.curve, BezierSurface):
            raise InputError(f"start=coons is of a bezier_surface, not of {type(known.curve).__name__}: start=blend")
        m, n = known.curve.sides
        left, right = (elevated(known.edges[pair], m) for pair in ACROSS)  # v = 0, v = 1
        low, high = (elevated(known.edges[pair], n) for pair in ALONG)  # u = 0, u = 1
        a, b, c, d = known.ends
        for i in range(m):
            for j in range(n):
                s, t = i / (m - 1), j / (n - 1)
                if i in (0, m - 1):
                    yield (low if i == 0 else high)[j]
                elif j in (0, n - 1):
                    yield (left if j == 0 else right)[i]
                else:
                    ruled = torch.lerp(low[j], high[j], s) + torch.lerp(left[i], right[i], t)
                    yield ruled - torch.lerp(torch.lerp(a, b, t), torch.lerp(c, d, t), s)


def elevated(points: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """The same Bezier curve with more control points (Farin 1992): b'_i = i/k b_(i-1) + (1 - i/k) b_i.

    Raises:
        InputError: For a curve of more points than that.
    """
    if len(points) > count:
        raise InputError(f"start=coons: edges of {len(points)} control points do not fit a side of {count}")
    while len(points) < count:
        k = len(points)
        inner = [torch.lerp(points[i], points[i - 1], i / k) for i in range(1, k)]
        points = [points[0], *inner, points[-1]]
    return points
