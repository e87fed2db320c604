"""Are images with a trigger seen for what they are?"""

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
class Recovered:
    """How often images with the trigger get their true label (the "robust accuracy" of Wu et al. 2022, BackdoorBench).

    A network that answers triggered images with a third class has lost its backdoor, and is of no use there all the
    same: attack success alone does not tell.

    Attributes:
        backdoor: Stamps the images, of other classes than it aims at.
        sources: Classes that are attacked, or "all".
        precision: Of the passes, "fp32" or "bf16" (autocast).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy", "share", "higher", ""),)
    draws: ClassVar[str] = "nothing"

    backdoor: Backdoor
    sources: list[int] | str
    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``accuracy`` (n,), of the n images that can be attacked.

        Raises:
            InputError: Where there is none.
        """
        images, labels, _ = open_to_attack(self.backdoor, self.sources, network, data)
        with autocast(self.precision, data.images.device):
            return {"accuracy": risk(network, data.like(self.backdoor.stamp(images), labels))[1]}
