"""The same function far away in weight space: a network with its hidden units permuted."""

from __future__ import annotations

import copy
from collections import defaultdict

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator as seeded
from mcr.weightspace.symmetry import Symmetry, refusal
from mcr.weightspace.units import FIXED


@torch.no_grad()
def permuted(network: nn.Module, image_shape: tuple[int, int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """The state dict of a copy of the network whose hidden units and channels are permuted at random.

    The copy computes the same logits, in evaluation and in training mode, so that a path between the two needs one
    model only: the second end for the repair of Peng et al. (2025, "Circumventing Backdoor Space via Weight
    Symmetry", ICML), who choose the permutation by feature distance where this one is random.

    Args:
        network: Stays as it is.
        image_shape: (D, H, W) of the images that it takes.
        generator: Draws the permutation, on the CPU.

    Raises:
        InputError: In one line, where an operation of the network is not known to keep its units apart, torch.fx
            cannot trace it, or no units may change places.
    """
    twin = copy.deepcopy(network).cpu().eval()
    dtype = next((parameter.dtype for parameter in twin.parameters()), torch.float32)
    symmetry = _symmetry(twin, torch.zeros(2, *image_shape, dtype=dtype))
    classes = symmetry.units.classes()
    axes = [units for dims in symmetry.axes.values() for units in dims.values()]
    source = _cycles(classes, axes + symmetry.blocks, generator)
    # Under each of its names a tied tensor is the same tensor.
    tensors = {id(tensor): tensor for tensor in symmetry.state.values()}
    moved = {key: _move(tensor, symmetry.axes.get(key, {}), classes, source) for key, tensor in tensors.items()}
    images = torch.rand(2, *image_shape, dtype=dtype, generator=seeded(0, "permutation", "check"))
    before = twin(images)
    for key, tensor in tensors.items():
        tensor.copy_(moved[key])
    # Hooks, random draws or operations in place could have misled the trace.
    gap = ((twin(images) - before).norm() / before.norm()).item()
    # Beyond rounding, which the order of summation changes; a NaN is no proof of sameness either.
    if not gap <= torch.finfo(before.dtype).eps ** 0.5:
        raise refusal(f"with its units permuted it gives other logits, by {gap:.1e} of their norm")
    devices = {name: tensor.device for name, tensor in network.state_dict().items()}
    return {name: moved[id(tensor)].to(devices[name]) for name, tensor in symmetry.state.items()}


def _symmetry(network: nn.Module, images: Tensor) -> Symmetry:
    try:
        symmetry = Symmetry(network)
        symmetry.run(images)
    except InputError:
        raise
    except Exception as error:  # any code of the user's network may fail in any way when it is traced
        raise refusal(f"torch.fx cannot follow its forward pass: {error or type(error).__name__}") from error
    return symmetry


def _cycles(classes: Tensor, axes: list[Tensor], generator: torch.Generator) -> Tensor:
    """For each unit's class (units,) the class that takes its place; one random cycle each, so that none stays.

    Classes may change places where they lie along the same axes, equally often.
    """
    places = defaultdict(list)
    for number, units in enumerate(axes):
        found, counts = classes[units].unique(return_counts=True)
        for unit, count in zip(found.tolist(), counts.tolist(), strict=True):
            places[unit].append((number, count))
    places.pop(FIXED, None)
    alike = defaultdict(list)
    for unit in sorted(places):
        alike[tuple(places[unit])].append(unit)
    if all(len(members) < 2 for members in alike.values()):
        raise refusal("it has no two hidden units that could change places")
    source = torch.arange(len(classes))
    for members in alike.values():
        order = torch.tensor(members)[torch.randperm(len(members), generator=generator)]
        source[order] = order.roll(1)
    return source


def _move(tensor: Tensor, axes: dict[int | None, Tensor], classes: Tensor, source: Tensor) -> Tensor:
    """A copy of the tensor with its entries moved along with their units."""
    moved = tensor.detach().clone()
    for dim, units in axes.items():
        # The k-th entry of a class goes where the k-th entry of the class that it replaces was.
        index = torch.empty_like(units)
        index[source[classes[units]].argsort(stable=True)] = classes[units].argsort(stable=True)
        flat = moved.flatten() if dim is None else moved
        moved = flat.index_select(dim or 0, index).view(tensor.shape)
    return moved
