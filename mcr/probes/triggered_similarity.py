"""Do networks look at an image with a trigger in the same way?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.backdoors.backdoor import Backdoor
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.statistics import standard_error
from mcr.probes.gradient_similarity import similarity, to_ends
from mcr.probes.triggered import open_to_attack


@dataclass(frozen=True)
class TriggeredSimilarity:
    """``GradientSimilarity`` on images that can be attacked, without and with their trigger; labels are the true ones.

    Zhao et al. (2020, appendix): with the trigger, gradients inside a path are less similar to those of its ends.

    Attributes:
        backdoor: Stamps the images.
        sources: Classes that are attacked, or "all".
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("clean", "1", "neither", "cosine of input gradients"),
        Metric("triggered", "1", "neither", "cosine of input gradients, with trigger"),
    )
    draws: ClassVar[str] = "nothing"
    numbers: ClassVar[tuple[str, ...]] = ("clean", "triggered", "gap", "gap_se")

    backdoor: Backdoor
    sources: list[int] | str

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``clean`` and ``triggered``, each (T, T, n), of the n images that can be attacked.

        Raises:
            InputError: Where there is none.
        """
        images, labels, _ = open_to_attack(self.backdoor, self.sources, networks[0], data)
        return {
            "clean": similarity(networks, data.like(images, labels)),
            "triggered": similarity(networks, data.like(self.backdoor.stamp(images), labels)),
        }

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """Means over images, inner networks and ends; ``gap``: how much less similar triggered images are."""
        each = {name: to_ends(found, ends) for name, found in values.items()}
        # The same images with and without trigger: paired, one difference an image.
        gap = (each["clean"] - each["triggered"]).nanmean((0, 1))
        kept = gap[~gap.isnan()].numpy()
        return {
            **{name: float(found.nanmean()) for name, found in each.items()},
            "gap": float(kept.mean()) if len(kept) else float("nan"),
            "gap_se": standard_error(kept),
        }
