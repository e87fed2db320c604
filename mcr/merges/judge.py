"""Who tells a merge how good a place is, on validation images, and the places that merges go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.weightspace.subspace import ROUNDING, shares_of_ends


class Score(NamedTuple):
    """Means over the validation images of the network at a place, BatchNorm estimated there."""

    accuracy: float
    loss: float


class Tried(NamedTuple):
    """A place that was judged, float64 (dim,), and how good it is."""

    place: Tensor
    score: Score


@dataclass(frozen=True)
class Judge:
    """Scores places of a subspace; a place is judged once, however often it is asked for.

    Attributes:
        curve: Of the subspace.
        look: Goes to a place, float64 (dim,), and scores the network there.
        tried: What was judged, in order.
    """

    curve: Curve
    look: Callable[[Tensor], Score]
    tried: list[Tried] = field(default_factory=list)

    def score(self, u: Tensor) -> Score:
        """How good the network at u, float64 (dim,), is."""
        known = next((one.score for one in self.tried if torch.equal(one.place, u)), None)
        if known is None:
            known = self.look(u)
            self.tried.append(Tried(u, known))
        return known

    def ranked(self, places: Sequence[Tensor], metric: str) -> list[Tensor]:
        """The places by the highest accuracy or the lowest loss; of equals by the other one, then in their order.

        Raises:
            InputError: For another metric.
        """
        if metric not in Score._fields:
            raise InputError(f"metric={metric} must be {' or '.join(Score._fields)}")

        def rank(u: Tensor) -> tuple[float, float]:
            score = self.score(u)
            return (-score.accuracy, score.loss) if metric == "accuracy" else (score.loss, -score.accuracy)

        return sorted(places, key=rank)


def corners(curve: Curve) -> list[Tensor]:
    """The places of the N networks themselves, float64 (dim,) each, in their order."""
    found: dict[int, Tensor] = {}
    for u in curve.grid(2):
        shares = shares_of_ends(curve, u)
        if float(shares.max()) >= 1 - ROUNDING:
            found[int(shares.argmax())] = u
    return [found[index] for index in range(curve.ends)]


def average_of(curve: Curve, members: Sequence[int]) -> Tensor:
    """The place, float64 (N - 1,), where these networks have equal shares and the others none.

    Args:
        curve: A flat simplex of N networks.
        members: Numbers of the networks.

    Raises:
        InputError: For another kind of subspace, which need not hold the averages of its networks.
    """
    wanted = torch.zeros(curve.ends, dtype=torch.float64)
    wanted[list(members)] = 1 / len(members)
    place = wanted[1:]
    anchored = bool(torch.equal(curve.initial(), torch.eye(curve.ends, dtype=torch.float64)))
    if not anchored or curve.dim != len(place) or (curve.coefficients(place) - wanted).abs().max() > ROUNDING:
        kind = type(curve).__name__
        raise InputError(
            f"an average is a place of the flat simplex through all networks, not of {kind}: curve=simplex"
        )
    return place
