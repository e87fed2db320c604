"""What every detector is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mcr.errors import InputError


class Detector(Protocol):
    """A distance from clean images; what lies far away is suspected of an attack."""

    def distance(self, points: Tensor, known: Tensor, own: Tensor) -> Tensor:
        """The distance (M,) of each point, in the units of the images.

        Args:
            points: Float64 (M, P), one image a row.
            known: Clean images, float64 (N, P).
            own: int64 (M,): the row of the clean image that a point is, or was made of. It does not count for that
                point: at a distance of nothing, or of the attack, it would say what the attack did.

        Raises:
            InputError: Where there are too few clean images.
        """


def others(points: Tensor, known: Tensor, own: Tensor, count: int, name: str) -> tuple[Tensor, Tensor]:
    """The nearest clean images of each point, its own left out: Euclidean distances and rows, each (M, count).

    Args:
        points: See ``Detector.distance``, as for the next two.
        count: How many.
        name: What an error calls the detector.
    """
    if count >= len(known):
        raise InputError(
            f"detector={name}: {count} neighbours need {count + 1} clean images, there are {len(known)}: fewer "
            "neighbours, or more images"
        )
    # Differences, not products: products lose half of the digits where two images are near each other.
    apart = torch.cdist(points, known, compute_mode="donot_use_mm_for_euclid_dist").scatter(1, own[:, None], torch.inf)
    nearest = apart.topk(count, largest=False)
    return nearest.values, nearest.indices
