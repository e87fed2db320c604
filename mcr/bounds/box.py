"""Boxes of values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """All values between two bounds, entry by entry.

    Attributes:
        lower: Any shape.
        upper: The same shape, nowhere below.
    """

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """The middle of each side."""
        return (self.upper + self.lower) / 2

    @property
    def radius(self) -> Tensor:
        """Half of each side."""
        return (self.upper - self.lower) / 2

    def scaled(self, by: Tensor | float) -> Box:
        """Each value times a constant of either sign.

        >>> Box(torch.tensor([1.0]), torch.tensor([2.0])).scaled(-1.0)
        Box(lower=tensor([-2.]), upper=tensor([-1.]))
        """
        one, other = self.lower * by, self.upper * by
        return Box(torch.minimum(one, other), torch.maximum(one, other))


def around(images: Tensor, eps: float) -> Box:
    """The images in [0, 1] whose pixels differ by at most eps from these (B, D, H, W)."""
    return Box((images - eps).clamp_min(0), (images + eps).clamp_max(1))
