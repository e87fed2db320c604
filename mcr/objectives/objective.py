"""What every objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion


class Objective(ABC):
    """What training minimises at one network; one that attacks has an ``attack``.

    One that not every network suits has a method ``refuse``, of a network and an image (1, D, H, W), which raises
    InputError before the work.
    """

    attack: Evasion

    @property
    def attacks(self) -> bool:
        """Whether the network is also run in evaluation mode, so that its BatchNorm statistics must fit."""
        return True

    @abstractmethod
    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) of a batch (B, D, H, W) with labels (B,)."""

    def at(self, progress: float) -> Objective:
        """The objective at a point of training, from 0 to 1."""
        return self
