"""Distance to the plane that the nearest clean images lie in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.detectors.detector import others
from mcr.errors import InputError

TOGETHER = 64  # points whose neighbourhoods are decomposed at once: for 3x32x32 pixels and 30 neighbours 50 MiB


@dataclass(frozen=True)
class LocalTangent:
    """Euclidean distance to a plane through the nearest clean images, as an estimate of the manifold that they lie on.

    For centre c of the neighbours and their first principal directions Q: |(I - Q Q^T) (x - c)|. After Jha et al.
    (2018), who detect attacks by the distance to a low-dimensional manifold; their own estimator may differ.

    Attributes:
        neighbours: How many clean images.
        directions: Dimension of the plane.
    """

    neighbours: int
    directions: int

    def __post_init__(self) -> None:
        if not 0 <= self.directions < self.neighbours:
            raise InputError(
                f"detector=local_tangent: directions={self.directions} must be at least 0 and less than "
                f"neighbours={self.neighbours}"
            )

    def distance(self, points: Tensor, known: Tensor, own: Tensor) -> Tensor:
        """See ``Detector``."""
        rows = others(points, known, own, self.neighbours, "local_tangent")[1]
        parts = zip(points.split(TOGETHER), rows.split(TOGETHER), strict=True)
        return torch.cat([self._residual(part, known[near]) for part, near in parts])

    def _residual(self, points: Tensor, near: Tensor) -> Tensor:
        """Of points (M, P) from the planes of their neighbours (M, k, P)."""
        centre = near.mean(1)
        plane = torch.linalg.svd(near - centre[:, None], full_matrices=False).Vh[:, : self.directions]
        away = points - centre
        along = torch.einsum("mdp,mp->md", plane, away)
        left: Tensor = (away - torch.einsum("mdp,md->mp", plane, along)).norm(dim=1)
        return left
