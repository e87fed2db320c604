"""What moves one of the given networks, tried on the others: do they hide the same?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mcr.datasets.batches import EvaluationBatches
from mcr.numerics.seeding import generator
from mcr.signals.signal import Signal

SCRATCH = "scratch"  # the column of the network that can hold nothing hidden


def transfer(
    signals: Mapping[str, Signal],
    suspects: Mapping[str, nn.Module],
    reference: nn.Module,
    images: EvaluationBatches,
    seed: str,
) -> dict[str, dict[str, dict[str, float]]]:
    """Name of a signal to the network that it is fitted to, alone, to each network to the signal there.

    Where what moves one network leaves another one unmoved, the two do not share it. Between a single network and
    itself nothing can be compared.

    Args:
        signals: Such as are the success of something fitted to a network.
        suspects: Name to network.
        reference: Trained from scratch on the same clean images.
        images: The clean images.
        seed: Of the fits.
    """
    if len(suspects) < 2:
        return {}
    tried = {**suspects, SCRATCH: reference}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, signal in signals.items():
        for own, suspect in suspects.items():
            question = signal.against([suspect], images, generator(seed, "transfer", name))
            on = {other: float(question(network).mean()) for other, network in tried.items()}
            found.setdefault(name, {})[own] = on
    return found
