"""Networks spread over a subspace, whose answers are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.merges.judge import Judge
from mcr.weightspace.locus import Wanted, places


@dataclass(frozen=True)
class Points:
    """The output ensemble of a grid over the fitted subspace (Ren et al. 2025: all 121 places of 11 x 11).

    Attributes:
        grid: Places along each edge, or a list of them.
        most: "all" of them, or so many that lie far apart: each next one is the farthest from those before it, of
            equals the first (Gonzalez 1985), in the coordinates of the subspace.
    """

    grid: Wanted
    most: int | Literal["all"]

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """Up to ``most`` places; nothing is judged. Raises InputError for none, or a grid that is none of these."""
        found = places(judge.curve, self.grid, "grid of points")
        most = len(found) if self.most == "all" else self.most
        if most < 1:
            raise InputError(f"most={self.most} of an ensemble's points must be at least 1")
        if most >= len(found):
            return list(found)
        chosen = [0]
        nearest = torch.full((len(found),), torch.inf, dtype=found.dtype)
        while len(chosen) < most:
            nearest = torch.minimum(nearest, (found - found[chosen[-1]]).norm(dim=1))
            chosen.append(int(nearest.argmax()))
        return list(found[sorted(chosen)])
