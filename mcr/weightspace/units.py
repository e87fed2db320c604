"""Names of hidden units: which entries of a value move with which unit, and which units must move together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FIXED = 0  # the unit that stays in place: of pixels, logits and constants


class Units:
    """The units of one network, numbered in the order of their appearance.

    Attributes:
        count: Units so far.
        links: Pairs of units (n, 2) that move together.
    """

    def __init__(self) -> None:
        self.count = FIXED + 1
        self.links: list[Tensor] = []

    def new(self, count: int) -> Tensor:
        """As many new units (count,)."""
        self.count += count
        return torch.arange(self.count - count, self.count)

    def link(self, one: Tensor, other: Tensor) -> None:
        """The units of one tensor move together with those of another at the same place; both are broadcast."""
        if one is not other:
            pair = _thin(*torch.broadcast_tensors(one, other))
            self.links.append(torch.stack([units.flatten() for units in pair], dim=1))

    def fix(self, *values: Tensor) -> None:
        """These units stay in place."""
        for units in values:
            self.link(units, torch.tensor(FIXED))

    def shared(self, units: Tensor, trailing: int) -> Tensor:
        """Link along all dimensions but the last so many; the units along these."""
        first = units[(0,) * (units.dim() - trailing)]
        self.link(units, first.expand_as(units))
        return first

    def row(self, units: Tensor, dim: int) -> Tensor:
        """Link along all other dimensions, such as batch, pixels and tokens; the units (n,) along this one."""
        return self.shared(units.movedim(dim, -1), 1)

    def meet(self, one: Tensor, other: Tensor) -> Tensor:
        """The units of an elementwise operation on two values."""
        shape = torch.broadcast_shapes(one.shape, other.shape)
        for small, large in ((one, other.expand(shape)), (other, one.expand(shape))):
            kept = small[(None,) * (len(shape) - small.dim())].shape
            differ = varying(large)
            if differ and all(kept[dim] == 1 for dim in differ):
                # A scale or a spatial mask, the same for all units of the other: it stays, and they may move.
                self.fix(small)
                return large
        self.link(one, other)
        return min(one.expand(shape), other.expand(shape), key=lambda units: _thin(units)[0].numel())

    def classes(self) -> Tensor:
        """For each unit (count,) the first of those that it moves together with."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = torch.cat(self.links).unique(dim=0).numpy()
        graph = coo_array((pairs[:, 0] >= 0, (pairs[:, 0], pairs[:, 1])), shape=(self.count, self.count))
        number, labels = connected_components(graph, directed=False)
        units, found = torch.arange(self.count), torch.from_numpy(labels).long()
        first = torch.full((number,), self.count).scatter_reduce(0, found, units, "amin")
        return first[found]


def spread(units: Tensor, shape: Sequence[int], dim: int) -> Tensor:
    """Units (n,) along one dimension of a shape, the same along all others."""
    return units.view([-1 if at == dim % len(shape) else 1 for at in range(len(shape))]).expand(shape)


def varying(units: Tensor) -> list[int]:
    """The dimensions along which the units differ."""
    (thin,) = _thin(units)
    return [dim for dim in range(units.dim()) if bool((thin != thin.narrow(dim, 0, 1)).any())]


def along(units: Tensor, classes: Tensor) -> tuple[int, Tensor] | None:
    """The one dimension of a value along which its units differ, and their classes (n,) there; None for another value.

    Args:
        units: Of the value.
        classes: Of all units, see ``Units.classes``.
    """
    thin = classes[_thin(units)[0]]
    dims = varying(thin)
    if len(dims) != 1:
        return None
    return dims[0], thin.movedim(dims[0], 0).flatten(1)[:, 0]


def _thin(*tensors: Tensor) -> list[Tensor]:
    """One slice of each dimension along which all of them repeat in memory: the names at many pixels are few."""
    thin = list(tensors)
    for dim in range(tensors[0].dim()):
        if all(tensor.stride(dim) == 0 for tensor in tensors):
            thin = [tensor.narrow(dim, 0, 1) for tensor in thin]
    return thin
