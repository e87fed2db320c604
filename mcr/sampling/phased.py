"""One sampler after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.sampling.sampler import Sampler, Walk


@dataclass(frozen=True)
class Phased:
    """One sampler for the first share of training, another for the rest; either may be phased itself.

    Attributes:
        share: Of training, strictly between 0 and 1.
        first: Until then.
        then: From then on.

    Raises:
        InputError: For another share.
    """

    share: float
    first: Sampler
    then: Sampler

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"sampling: share={self.share} of the first phase must lie between 0 and 1")

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """See Sampler."""
        first, then = self.first.begin(curve, draw), self.then.begin(curve, draw)
        return lambda progress: first(progress) if progress < self.share else then(progress)
