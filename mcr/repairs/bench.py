"""What a method of repair works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import State, Subspace

Candidate = dict[str, float]
"""What finds a candidate again: its learning rate, the coordinates of its place, its threshold, or the draw."""


@dataclass(frozen=True)
class Walked:
    """A fitted subspace with BatchNorm's statistics at some of its places.

    Attributes:
        space: Moves a network of its own, or the bench's.
        places: Float64 (T, dim), the ends among them; a candidate is found again by these very numbers.
        statistics: Of each place, as ``Subspace.at_with`` takes them.
    """

    space: Subspace
    places: Tensor
    statistics: list[dict[str, Tensor]]


Trained = Walked | State
"""What training on the clean images gave: a path, or the state dict of a network."""


@dataclass(frozen=True)
class Bench:
    """The given networks, what was trained on the clean images, and the images that estimate BatchNorm.

    Attributes:
        network: State dicts are loaded into it, one after the other: whoever keeps a candidate copies it.
        layout: Of its parameters.
        ends: Name to state dict of the given networks, one or more; the first is to be repaired.
        trained: Learning rate to what was trained with it, all of one kind; empty where nothing is trained.
        calibration: Gives augmented images (B, D, H, W) of those that were trained on, held-out ones never, anew and
            the same at each call.
        seed: Of whatever a repair draws.
    """

    network: nn.Module
    layout: Layout
    ends: Mapping[str, State]
    trained: Mapping[float, Trained]
    calibration: Callable[[], Iterator[Tensor]]
    seed: str
