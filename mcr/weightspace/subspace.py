"""A subspace of weight space through several networks: every point of it is a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.numerics.precision import Precision, autocast
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt, blocks
from mcr.weightspace.states import load_state
from mcr.weightspace.transform import Transform

State = Mapping[str, Tensor]
"""A network's state dict."""

ROUNDING = 1e-9  # shares of two ends that differ by less are alike


def control_points(curve: Curve, ends: Sequence[Tensor]) -> Iterator[Tensor]:
    """Starting values of the K control points: blends of the ends, each (P,), made as they are asked for.

    One that is an end is that tensor itself, no copy. An error comes when the first one is asked for.

    Args:
        curve: Of K control points through N ends.
        ends: N vectors (P,).

    Raises:
        InputError: Where the curve joins another number of networks.
    """
    if curve.ends != len(ends):
        kind = type(curve).__name__
        raise InputError(f"curve {kind} joins {curve.ends} networks, {len(ends)} are given: see endpoints and curve")
    yield from (blend(shares, ends) for shares in curve.initial().tolist())


def blend(shares: Sequence[float], ends: Sequence[Tensor]) -> Tensor:
    """The sum of N ends (P,) times their shares, which sum to one; of one share alone that end itself, no copy."""
    parts = [(share, end) for share, end in zip(shares, ends, strict=True) if share]
    if len(parts) == 1:
        return parts[0][1]
    if len(parts) == 2 and sum(share for share, _ in parts) == 1:
        # a + w (b - a): where both have the same number, so has the blend; a sum of two rounded products may not.
        return torch.lerp(parts[0][1], parts[1][1], parts[1][0])
    total = torch.zeros_like(ends[0])
    for share, end in parts:
        total.add_(end, alpha=share)
    return total


def inner_points(curve: Curve) -> list[int]:
    """Indices of the control points that are no end."""
    return [index for index, row in enumerate(curve.initial().tolist()) if sum(share != 0 for share in row) > 1]


def shares_of_ends(curve: Curve, u: Tensor) -> Tensor:
    """Share of each of the N ends at u, float64 (dim,), in the initial blend: float64 (N,), they sum to one.

    Linear along a path, bilinear on a surface of four networks, barycentric on a simplex.
    """
    return curve.coefficients(u) @ curve.initial()


class Subspace:
    """theta(u) = T(sum_k c_k(u) p_k), u in R^dim: a path (dim 1), a surface (2), a simplex, through N networks.

    The name is that of Wortsman et al. (2021, "Learning neural network subspaces"). A path between two networks
    (Garipov et al. 2018), a Bezier surface through four (Ren et al. 2025) and the average of N (a point of their
    simplex) are the same thing with other coefficients c_k.

    ``at(u)`` gives the network there: its parameters are theta(u), its BatchNorm statistics are estimated from the
    calibration images, its other buffers are those of the end with the largest share before anything was fitted, of
    equals the first. One subspace with one calibration gives one network at u, whoever asks.

    Args:
        network: Moved through weight space, not copied: each call overwrites its weights and buffers, and leaves it in
            the mode (training, evaluation) that it was in. Of one dtype.
        curve: Gives c(u) (K,).
        ends: State dicts of the N networks.
        calibration: Gives the images (B, D, H, W) that estimate BatchNorm, anew and the same at each call.
        memory_format: "channels_last" or "contiguous", of the network.
        precision: Of the passes that estimate BatchNorm.
        transforms: Done to theta in turn after blending.

    Attributes:
        points: Control points, K vectors (P,); at first blends of the ends.
        layout: Of the network's parameters.
        model: The network bound to a flat vector; None before it was moved for the first time.
    """

    def __init__(
        self,
        network: nn.Module,
        curve: Curve,
        ends: Sequence[State],
        calibration: Callable[[], Iterable[Tensor]],
        memory_format: str,
        precision: Precision,
        transforms: Sequence[Transform],
    ) -> None:
        self.network, self.curve, self.ends, self.calibration = network, curve, ends, calibration
        self.precision = precision
        self.layout = Layout.of(network, memory_format)
        device = next(network.parameters()).device
        packed = [self.layout.pack(state) for state in ends]
        self.transforms = [transform.joining(packed, self.layout) for transform in transforms]
        self.points = [point.to(device) for point in control_points(curve, packed)]
        self.model: ModelAt | None = None

    def set_inner_points(self, points: Sequence[Tensor]) -> None:
        """Put fitted control points, each (P,), in the place of those that are no end, in the order of these."""
        for index, point in zip(inner_points(self.curve), points, strict=True):
            self.points[index] = point.to(self.points[index].device)

    def theta(self, u: Tensor) -> Tensor:
        """The weights at u, float64 (dim,): (P,). Moves the network's parameters there.

        What is returned is the network's own storage until the next place or end is asked for; then it keeps its
        numbers.
        BatchNorm's statistics are those of an end: only ``at`` and ``at_with`` give a network to evaluate.

        Raises:
            InputError: For a place outside the curve's domain.
        """
        self.curve.check(u)
        shares = shares_of_ends(self.curve, u)
        leading = self.ends[int((shares >= shares.max() - ROUNDING).nonzero()[0])]
        kept = {name: value for name, value in leading.items() if name not in self.layout.names}
        load_state(self.network, kept, strict=False)
        # Anew each time: a move to another device tears the network off its flat vector, and callers keep theirs.
        self.model = ModelAt(self.network, self.layout)
        self.model.place(self.curve.coefficients(u), blocks(self.points))
        for transform in self.transforms:
            transform.apply_(self.model.theta, self.layout)
        return self.model.theta

    def at(self, u: Tensor) -> nn.Module:
        """The network at u, float64 (dim,), with BatchNorm's statistics of that place; the next call moves it."""
        theta = self.theta(u)
        with autocast(self.precision, theta.device):
            batchnorm.refresh(self.network, self.calibration())
        return self.network

    def at_with(self, u: Tensor, statistics: State) -> nn.Module:
        """The network at u with BatchNorm's statistics as they were estimated there before (see ``statistics``)."""
        self.theta(u)
        load_state(self.network, statistics, strict=False)
        return self.network

    def end_as_given(self, index: int) -> nn.Module:
        """One of the ends with its own BatchNorm statistics and without transforms: ``at`` may differ from it there."""
        self.model = ModelAt(self.network, self.layout)  # what theta() gave keeps its numbers
        load_state(self.network, self.ends[index])
        return self.network

    def statistics(self) -> dict[str, Tensor]:
        """Copies of the BatchNorm statistics that the network has now, by their names; those of u after ``at(u)``."""
        kept = set(batchnorm.layers(self.network))
        named = [(name, module) for name, module in self.network.named_modules() if module in kept]
        return {
            f"{name}.{key}": value.clone()
            for name, module in named
            for key, value in module.named_buffers(recurse=False)
        }
