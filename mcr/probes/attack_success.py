"""Does a backdoor work?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.backdoors.backdoor import Backdoor
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision, autocast
from mcr.probes.risk import risk
from mcr.probes.triggered import open_to_attack


@dataclass(frozen=True)
class AttackSuccess:
    """How often images with the trigger get the attacker's label, and how often they do without it.

    Images whose label is the attacker's aim already are left out: a clean network gives them that label too. The rate
    without trigger is what the trigger has to beat.

    Attributes:
        backdoor: Stamps the images and names the attacker's label.
        sources: Classes that are attacked, or "all".
        precision: Of the passes, "fp32" or "bf16" (autocast).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("success", "share", "lower", "attack success"),
        Metric("without_trigger", "share", "neither", ""),
    )
    draws: ClassVar[str] = "nothing"

    backdoor: Backdoor
    sources: list[int] | str
    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``success`` and ``without_trigger``, each (n,), of the n images that can be attacked.

        Raises:
            InputError: Where there is none.
        """
        images, _, aimed = open_to_attack(self.backdoor, self.sources, network, data)
        found = {}
        with autocast(self.precision, data.images.device):
            for name, shown in (("success", self.backdoor.stamp(images)), ("without_trigger", images)):
                _, found[name] = risk(network, data.like(shown, aimed))
        return found
