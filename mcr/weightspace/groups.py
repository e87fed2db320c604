"""Hidden units that may change places with each other, and where the entries of each lie in the state dict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.weightspace.functions import Functions
from mcr.weightspace.units import FIXED

Orders = list[Tensor]
"""For each group its order int64 (m,): the member that takes the place of the i-th."""


@dataclass(frozen=True)
class Place:
    """Where the entries of a group's members lie in one tensor, along one dimension.

    Attributes:
        names: Of the tensor in the state dict; a tied tensor has several.
        dim: The dimension; None where the entries lie in the flattened tensor.
        index: int64 (m, k): the k entries of each member.
    """

    names: tuple[str, ...]
    dim: int | None
    index: Tensor

    @property
    def name(self) -> str:
        """The first of the tensor's names, by which ``named_parameters`` has it too."""
        return self.names[0]

    def rows(self, tensor: Tensor) -> Tensor:
        """All that the tensor has of each member (m, n)."""
        entries = tensor.flatten() if self.dim is None else tensor.movedim(self.dim, 0)
        return entries[self.index].flatten(1)

    def move(self, tensor: Tensor, order: Tensor) -> Tensor:
        """A copy of the tensor in which member ``order[i]`` has the place of member i."""
        entries, dim = (tensor.flatten(), 0) if self.dim is None else (tensor, self.dim)
        source = torch.arange(entries.shape[dim])
        source[self.index] = self.index[order]
        return entries.index_select(dim, source).view(tensor.shape)


@dataclass(frozen=True)
class Group:
    """Units that lie along the same dimensions and in the same blocks, equally often: any order of them will do.

    Attributes:
        members: int64 (m,): the units, by the first of those that each moves together with.
        places: Where their entries lie.
    """

    members: Tensor
    places: tuple[Place, ...]

    @property
    def names(self) -> set[str]:
        """Of the tensors that its members lie in."""
        return {place.name for place in self.places}


def grouped(known: Functions, apart: Sequence[Tensor]) -> list[Group]:
    """The groups of two units or more.

    Args:
        known: Where units lie, as a pass through the network has found it.
        apart: Further units (n,) that change places among themselves only.
    """
    classes = known.units.classes()
    axes = [(key, dim, units) for key, dims in known.axes.items() for dim, units in dims.items()]
    signatures = defaultdict(list)
    for number, units in enumerate([*(units for _, _, units in axes), *known.blocks, *apart]):
        found, counts = classes[units].unique(return_counts=True)
        for unit, count in zip(found.tolist(), counts.tolist(), strict=True):
            signatures[unit].append((number, count))
    signatures.pop(FIXED, None)
    alike = defaultdict(list)
    for unit in sorted(signatures):
        alike[tuple(signatures[unit])].append(unit)
    names = defaultdict(list)
    for name, tensor in known.state.items():
        names[id(tensor)].append(name)
    groups = []
    for signature, numbers in alike.items():
        if len(numbers) < 2:
            continue
        members = torch.tensor(numbers)
        places = []
        for key, dim, along in (axes[number] for number, _ in signature if number < len(axes)):
            if key in names:
                places.append(Place(tuple(names[key]), dim, entries(classes[along], members)))
        groups.append(Group(members, tuple(places)))
    return groups


def entries(along: Tensor, members: Tensor) -> Tensor:
    """Where each member stands in a row of units (n,), in which all stand equally often: int64 (m, k).

    >>> entries(torch.tensor([7, 3, 7, 3]), torch.tensor([3, 7]))
    tensor([[1, 3],
            [0, 2]])
    """
    order = along.argsort(stable=True)
    first = torch.searchsorted(along[order], members)
    count = int((along == members[0]).sum())
    return order[first[:, None] + torch.arange(count)]


def moved(state: Mapping[str, Tensor], groups: Sequence[Group], orders: Orders) -> dict[str, Tensor]:
    """The state dict with the members of each group in a new order; tied tensors stay tied."""
    found = dict(state)
    for group, order in zip(groups, orders, strict=True):
        for place in group.places:
            found.update(dict.fromkeys(place.names, place.move(found[place.name], order)))
    return found
