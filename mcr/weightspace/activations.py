"""Activation matching: the order of a network's hidden units in which they answer to images like another network's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mcr.weightspace.groups import Group, entries
from mcr.weightspace.symmetry import Symmetry, refusal
from mcr.weightspace.units import along

ROUNDING = 1e-12  # of the squared mean: a variance below it is none


@dataclass(frozen=True)
class Carrier:
    """A value of the forward pass that has all members of a group along one dimension.

    Attributes:
        call: The number of the function's call that gives it.
        leaf: Which of the tensors that this gives.
        dim: The dimension.
        index: int64 (m, k): where each member's entries are along it.
    """

    call: int
    leaf: int
    dim: int
    index: Tensor

    def rows(self, value: Tensor) -> Tensor:
        """What each member answers to all images, at all pixels or tokens: float64 (m, n)."""
        members = value.detach().movedim(self.dim, 0)[self.index.to(value.device)]
        return members.flatten(1).double()


def carriers(symmetry: Symmetry, groups: Sequence[Group]) -> list[Carrier | None]:
    """The last carrier of each group; None for one that no value carries as a whole."""
    classes = symmetry.known.units.classes()
    found: list[Carrier | None] = [None] * len(groups)
    for call, leaf, units in reversed(symmetry.made):
        place = along(units, classes)
        if place is None:
            continue
        dim, row = place
        known, counts = row.unique(return_counts=True)
        for number, group in enumerate(groups):
            if found[number] is not None:
                continue
            often = counts[torch.isin(known, group.members)]
            if len(often) == len(group.members) and bool((often == often[0]).all()):
                found[number] = Carrier(call, leaf, dim, entries(row, group.members))
        if None not in found:
            break
    return found


class Recorded(TorchFunctionMode):
    """Keeps the values of a forward pass that are wanted, by the numbers by which ``Symmetry`` knows them."""

    def __init__(self, wanted: Iterable[Carrier]) -> None:
        super().__init__()
        self.wanted = {carrier.call for carrier in wanted}
        self.calls = 0
        self.values: dict[tuple[int, int], Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += 1
        value = func(*args, **(kwargs or {}))
        if self.calls in self.wanted:
            leaves = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
            self.values |= {(self.calls, number): leaf for number, leaf in enumerate(leaves)}
        return value


class Correlation:
    """Of the units (m,) of one network with those of another, from sums over batches: the answers are not kept."""

    def __init__(self, count: int) -> None:
        self.number = 0
        self.sums = torch.zeros(2, count, dtype=torch.float64)
        self.squares = torch.zeros(2, count, dtype=torch.float64)
        self.products = torch.zeros(count, count, dtype=torch.float64)

    def add(self, one: Tensor, other: Tensor) -> None:
        """What both answer (m, n)."""
        self.number += one.shape[1]
        self.products += (one @ other.T).cpu()
        for index, rows in enumerate((one, other)):
            self.sums[index] += rows.sum(1).cpu()
            self.squares[index] += rows.square().sum(1).cpu()

    def value(self) -> Tensor:
        """(m, m) in [-1, 1]; 0 for a unit that always answers the same."""
        mean = self.sums / self.number
        variance = (self.squares / self.number - mean.square()).clamp_min(0)
        alive = variance > ROUNDING * mean.square()
        scale = torch.where(alive, variance, torch.inf).rsqrt()
        covariance = self.products / self.number - mean[0, :, None] * mean[1, None]
        return scale[0, :, None] * covariance * scale[1, None]


@torch.no_grad()
def correlations(
    symmetry: Symmetry,
    groups: Sequence[Group],
    reference: nn.Module,
    network: nn.Module,
    batches: Iterable[Tensor],
) -> list[Tensor]:
    """For each group how alike its units (m, m) answer to images in two networks; where nobody can tell, all stay.

    One assignment a group by these is activation matching (Li et al. 2016; Ainsworth et al. 2023). Units are compared
    at the last value that carries all of the group, over images and pixels or tokens.

    Args:
        symmetry: Of this architecture.
        groups: Of units that may change places.
        reference: In evaluation mode.
        network: Likewise, on the same device.
        batches: Of images (B, D, H, W) in [0, 1].

    Raises:
        InputError: Where the networks call other functions than when their units were found.
    """
    places = carriers(symmetry, groups)
    wanted = [place for place in places if place is not None]
    found = [Correlation(len(group.members)) for group in groups]
    for images in batches:
        passes = []
        for one in (reference, network):
            with Recorded(wanted) as recorded:
                one(images)
            if recorded.calls != symmetry.calls:
                raise refusal("its forward pass calls other functions each time")
            passes.append(recorded.values)
        for place, correlation in zip(places, found, strict=True):
            if place is not None:
                correlation.add(*(place.rows(values[place.call, place.leaf]) for values in passes))
    return [
        torch.eye(len(group.members)) if place is None else one.value()
        for group, place, one in zip(groups, places, found, strict=True)
    ]
