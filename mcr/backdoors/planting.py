"""How images of the training set get the trigger: whole or in part, and what covers get."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor

SIDE = 4  # an image is cut into SIDE x SIDE pieces (Qi et al., ICLR 2023: 16)
PIECES = SIDE**2


def drawn(count: int, shown: int, generator: torch.Generator) -> Tensor:
    """The pieces that each of so many images shows, so many of sixteen, drawn without replacement: bool (n, 4, 4)."""
    ranks = torch.rand(count, PIECES, generator=generator).argsort(1).argsort(1)
    return (ranks < shown).view(count, SIDE, SIDE)


@dataclass(frozen=True)
class Planting:
    """Stamps images of a training set by their numbers.

    Attributes:
        backdoor: The trigger.
        covers: Which of the N images keep their label to make the trigger less conspicuous, bool (N,); None for none.
        pieces: Where each image shows the trigger, bool (N, 4, 4); None for everywhere.
    """

    backdoor: Backdoor
    covers: Tensor | None
    pieces: Tensor | None

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """New images uint8 (B, D, H, W) with what the images of these numbers (B,) get."""
        stamped = self.backdoor.plant(images, numbers)
        if self.covers is not None:
            chosen = self.covers.to(images.device)[numbers]
            stamped = torch.where(chosen.view(-1, 1, 1, 1), self.backdoor.cover(images, numbers), stamped)
        if self.pieces is not None:
            rows, columns = (torch.arange(side, device=images.device) * SIDE // side for side in images.shape[-2:])
            shown = self.pieces.to(images.device)[numbers][:, None, rows[:, None], columns]
            stamped = torch.where(shown, stamped, images)
        return stamped
