"""The images that a trigger can be tried on."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.backdoors.backdoor import Backdoor
from mcr.backdoors.poisoning import attackable
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.divergence import classes


def open_to_attack(
    backdoor: Backdoor, sources: list[int] | str, network: nn.Module, data: EvaluationBatches
) -> tuple[Tensor, Tensor, Tensor]:
    """Images without the trigger uint8 (n, D, H, W), their true labels (n,), and those that the attacker wants (n,).

    Args:
        backdoor: Names the labels that are aimed at.
        sources: Classes that are attacked, or "all".
        network: Says how many classes there are.
        data: N images, of which n are of a source class and not of the class that is aimed at.

    Raises:
        InputError: Where there is none.
    """
    aimed = backdoor.aim(data.labels, classes(network, data))
    chosen = attackable(data.labels, aimed, sources)
    if not bool(chosen.any()):
        raise InputError("no image can be attacked: all are of the class that is aimed at, or none of the sources")
    return data.images[chosen], data.labels[chosen], aimed[chosen]
