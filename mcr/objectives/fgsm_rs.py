"""One-step adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks.pgd import Pgd
from mcr.errors import InputError
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.objective import Objective


@dataclass(frozen=True)
class FgsmRs(Objective):
    """Cross-entropy under one gradient step from a random start (Wong et al. 2020): about the price of two clean steps.

    It can collapse within an epoch: the network then withstands the one step and nothing else ("catastrophic
    overfitting"). Training therefore watches the robust accuracy under the run's own attack.

    Attributes:
        attack: The run's PGD: its radius is trained for, and it watches.
        step: Length of the step in radii; 1.25 in the paper.
    """

    attack: Any
    step: float

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Pgd):
            raise InputError("objective=fgsm_rs needs attack=pgd, which watches for catastrophic overfitting")
        if self.step <= 0:
            raise InputError(f"objective=fgsm_rs: step={self.step} must be above 0, in radii")

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) on the attacked images."""
        eps, norm = self.attack.eps, self.attack.norm
        step = Pgd(eps=eps, step_size=self.step * eps, steps=1, norm=norm, start="random", restarts=1)
        return Adversarial(step)(network, images, labels, generator)
