"""A reward for the volume of a simplex."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor

from mcr.errors import InputError


@dataclass(frozen=True)
class Volume:
    """-weight log(V + floor), V the volume of the simplex whose vertices are all control points.

    After Benton et al. (2021, "Loss surface simplexes for mode connecting volumes and fast ensembling", SPRO, eq. 3),
    who take V from the Cayley-Menger determinant. It is the same as sqrt(det(D D^T)) / m! with the m differences D of
    the other vertices from the first, without that determinant's cancellation. Where the vertices lie in one plane, as
    a free one does before it is fitted, the term has no slope: the loss has to move it out first.

    Attributes:
        weight: lambda, at least 0.
        floor: Of V, above 0; theirs is 1e-4.

    Raises:
        InputError: For a number out of its range.
    """

    weight: float
    floor: float

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and self.floor > 0):
            raise InputError(f"penalty=volume: weight={self.weight} >= 0 and floor={self.floor} > 0 needed")

    def __call__(self, gram: Tensor) -> Tensor:
        """See Penalty."""
        return -self.weight * (volume(gram) + self.floor).log()


def volume(gram: Tensor) -> Tensor:
    """Volume () of the simplex with these inner products of its vertices, float64 (K, K).

    >>> right = torch.tensor([[0.0, 0, 0], [0, 9, 0], [0, 0, 16]], dtype=torch.float64)  # legs of 3 and 4
    >>> round(float(volume(right)), 9)
    6.0
    """
    edges = gram[1:, 1:] - gram[1:, :1] - gram[:1, 1:] + gram[0, 0]
    # Rounding may leave a flat simplex just below zero; a slope is cut off there.
    square: Tensor = torch.linalg.det(edges)
    return (square.sqrt() if square > 0 else 0 * square) / factorial(len(gram) - 1)
