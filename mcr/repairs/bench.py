"""What lies on the bench when a network is repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mcr.weightspace.layout import Layout

State = Mapping[str, Tensor]
Candidate = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """The two networks, what was trained on the clean images, and how BatchNorm is estimated there.

    Attributes:
        network: The module that candidates are loaded into, one after the other.
        layout: Of its parameters.
        ends: State dicts of the start and the end network.
        curve: Has ``coefficients(t)``.
        trained: Learning rate to what was trained with it: the control points of a path, each (P,), or a state dict.
        calibration: Gives the defender's augmented images (B, D, H, W), anew and the same at each call.
        seed: Of whatever a repair draws.
    """

    network: nn.Module
    layout: Layout
    ends: tuple[State, State]
    curve: Any
    trained: Mapping[float, Any]
    calibration: Callable[[], Iterator[Tensor]]
    seed: str
