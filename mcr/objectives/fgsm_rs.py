"""One-step adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion, Maximizer
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
        attack: The run's: its radius is trained for, and it watches.
        step: Length of the step in radii; 1.25 in the paper.
    """

    attack: Evasion
    step: float

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Maximizer):
            raise InputError("objective=fgsm_rs needs an attack that watches for collapse, such as attack=pgd")
        if self.step <= 0:
            raise InputError(f"objective=fgsm_rs: step={self.step} must be above 0, in radii")

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) on the attacked images."""
        assert isinstance(self.attack, Maximizer)
        eps, norm = self.attack.eps, self.attack.norm
        step = Pgd(eps=eps, step_size=self.step * eps, steps=1, norm=norm, start="random", restarts=1)
        return Adversarial(step)(network, images, labels, generator)
