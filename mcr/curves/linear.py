"""The straight segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """theta(t) = (1 - t) start + t end."""

    @property
    def points(self) -> int:
        return 2

    def coefficients(self, t: float) -> Tensor:
        """float64 (2,)."""
        return torch.tensor([1 - t, t], dtype=torch.float64)
