"""A price for vertices that point the same way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.errors import InputError


@dataclass(frozen=True)
class Cosine:
    """weight times the mean squared cosine between two control points, over all pairs.

    After Wortsman et al. (2021, "Learning neural network subspaces", Sec. 3), who draw a pair in each step: the
    expectation of that. It keeps vertices that are trained together from becoming one network.

    Attributes:
        weight: beta, at least 0; theirs is 1.

    Raises:
        InputError: For a negative one.
    """

    weight: float

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise InputError(f"penalty=cosine: weight={self.weight} must not be negative")

    def __call__(self, gram: Tensor) -> Tensor:
        """See Penalty.

        >>> float(Cosine(1.0)(torch.tensor([[4.0, 1.0], [1.0, 1.0]])))
        0.25
        """
        squares = gram.diagonal()
        cosines = gram.square() / (squares[:, None] * squares)
        first, second = torch.triu_indices(len(gram), len(gram), offset=1)
        return self.weight * cosines[first, second].mean()
