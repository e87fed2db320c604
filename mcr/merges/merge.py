"""What every merge is: a rule that picks places of a subspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from mcr.curves.curve import Curve

Metric = Literal["loss", "accuracy"]


@dataclass(frozen=True)
class Judge:
    """What a rule may know: the validation images' verdict on a place, and where the networks lie.

    Attributes:
        curve: Has the domain.
        corners: Where the N networks lie, float64 (N, dim), in their order.
        ask: A place, float64 (dim,), to the mean loss (nats) and the accuracy of its network on validation images.
    """

    curve: Curve
    corners: Tensor
    ask: Callable[[Tensor], tuple[float, float]]

    def cost(self, u: Tensor, metric: Metric) -> float:
        """Worse when higher: the loss, or the error 1 - accuracy."""
        loss, accuracy = self.ask(u)
        return loss if metric == "loss" else 1 - accuracy


class Merge(Protocol):
    """A rule. What it picks is one network where it is one place; the networks of several answer together."""

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """The picked places, each float64 (dim,)."""


def best(judge: Judge, places: Sequence[Tensor], metric: Metric) -> Tensor:
    """The place of least cost, of equals the first."""
    return min(places, key=lambda u: judge.cost(u, metric))


def middle(corners: Tensor) -> Tensor:
    """The mean of places, float64 (n, dim) to (dim,): in a flat simplex the average of their networks."""
    return corners.mean(0)
