"""Small masks that move several networks at once to a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.signals import surrogates


@dataclass(frozen=True)
class Masks:
    """x (1 - m_c) + m_c p_c for each class c.

    Attributes:
        mask: m, (C, 1, H, W) in [0, 1].
        pattern: p, (C, D, H, W) in [0, 1].
    """

    mask: Tensor
    pattern: Tensor

    def put(self, images: Tensor, classes: slice) -> Tensor:
        """See Surrogates."""
        mask, pattern = self.mask[classes, None], self.pattern[classes, None]
        return images * (1 - mask) + mask * pattern


@dataclass(frozen=True)
class FittedMasks:
    """The masks of Neural Cleanse (Wang et al. 2019, eq. 3) for several networks at once.

    m_c and p_c, sigmoids of free numbers that begin as standard normal ones, minimise

        sum_i mean_x CE(e_i(x (1 - m_c) + m_c p_c), c) + weight |m_c|_1

    by Adam over clean images x of other classes, e_i the networks.

    Attributes:
        fitted: Images x, at most.
        steps: Of Adam.
        lr: Its learning rate.
        weight: Of the sum of a mask over its pixels.
    """

    fitted: int
    steps: int
    lr: float
    weight: float

    def __post_init__(self) -> None:
        if self.fitted < 1 or self.steps < 0 or self.lr <= 0 or self.weight < 0:
            raise InputError(
                f"masks: fitted={self.fitted} >= 1, steps={self.steps} >= 0, lr={self.lr:g} > 0, "
                f"weight={self.weight:g} >= 0 needed"
            )

    def fit(self, networks: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Masks:
        """The masks and patterns of all classes.

        Args:
            networks: Inside ``surrogates.still``.
            images: The images x: all of them are used in every step.
            draw: Of the numbers that are begun with.
        """
        counts = surrogates.targets(networks, images)
        unit = to_unit(images.images, images.memory_format)
        free = torch.randn(len(counts), 1 + unit.shape[1], *unit.shape[2:], generator=draw).to(unit.device)
        found = []
        for classes in surrogates.pieces(len(counts), images):
            # Adam moves every number for itself, so that classes do not meet.
            part = free[classes].clone().requires_grad_(True)
            adam = torch.optim.Adam([part], lr=self.lr)
            for _ in range(self.steps):
                masks = Masks(part[:, :1].sigmoid(), part[:, 1:].sigmoid())
                shown = masks.put(unit, slice(None))
                gradient = surrogates.slope(networks, shown, classes, counts, images)
                adam.zero_grad()
                torch.autograd.backward([shown, self.weight * masks.mask.sum()], [gradient, None])
                adam.step()
            found.append(part.detach().sigmoid())
        whole = torch.cat(found)
        return Masks(whole[:, :1], whole[:, 1:])
