"""Distance to the nearest clean images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mcr.detectors.detector import others
from mcr.errors import InputError


@dataclass(frozen=True)
class NearestNeighbours:
    """Mean Euclidean distance to the nearest clean images.

    Attributes:
        neighbours: How many.
    """

    neighbours: int

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"detector=nearest_neighbours: neighbours={self.neighbours} must be at least 1")

    def distance(self, points: Tensor, known: Tensor, own: Tensor) -> Tensor:
        """See ``Detector``."""
        return others(points, known, own, self.neighbours, "nearest_neighbours")[0].mean(1)
