"""What lies on the bench when a network is repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import State, Subspace

Candidate = dict[str, float]


@dataclass(frozen=True)
class Walked:
    """A fitted subspace, places (T, dim) of it, and BatchNorm's statistics there."""

    space: Subspace
    places: Tensor
    statistics: list[dict[str, Tensor]]


Trained = Walked | State


@dataclass(frozen=True)
class Bench:
    """The networks, what was trained on the clean images, and how BatchNorm is estimated there.

    Attributes:
        network: The module that candidates are loaded into, one after the other.
        layout: Of its parameters.
        ends: Name to state dict of the networks; the first is to be repaired.
        trained: Learning rate to what was trained with it.
        calibration: Gives the defender's augmented images (B, D, H, W), anew and the same at each call.
        seed: Of whatever a repair draws.
    """

    network: nn.Module
    layout: Layout
    ends: Mapping[str, State]
    trained: Mapping[float, Trained]
    calibration: Callable[[], Iterator[Tensor]]
    seed: str
