"""The same function far away in weight space: a network with its hidden units permuted."""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator as seeded
from mcr.weightspace.symmetry import Symmetry, refusal
from mcr.weightspace.units import FIXED

log = logging.getLogger("mcr")
NEAR = 0.7  # of the weights' norm: half of the sqrt(2) by which independent weights would be apart


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
        InputError: In one line, where the way of an image through the network depends on its values, the copy turns out
            to give other logits, or no units may change places.
    """
    twin = copy.deepcopy(network).cpu().eval()
    dtype = next((parameter.dtype for parameter in twin.parameters()), torch.float32)
    symmetry = _symmetry(twin, torch.zeros(2, *image_shape, dtype=dtype))
    known, held = symmetry.known, list(symmetry.held)
    classes = known.units.classes()
    axes = [units for dims in known.axes.values() for units in dims.values()]
    images = torch.rand(2, *image_shape, dtype=dtype, generator=seeded(0, "permutation", "check"))
    # Under each of its names a tied tensor is the same tensor.
    tensors = {id(tensor): tensor for tensor in known.state.values()}
    for parts in ([], known.parts):  # slices may go on in different ways: then units change places inside of them only
        source = _cycles(classes, axes + known.blocks + parts, generator, held)
        move = partial(_moved, tensors, known.axes, classes, source)
        moved, gap = move(), _gap(twin, images, tensors, move)
        # Beyond rounding, which the order of summation changes; a NaN is no proof of sameness either.
        same = gap <= torch.finfo(dtype).eps ** 0.5
        if same or not known.parts:
            break
    if not same:
        raise refusal(f"with its units permuted it gives other logits, by {gap:.1e} of their norm")
    _warn_of_a_near_copy(tensors.values(), moved, held)
    devices = {name: tensor.device for name, tensor in network.state_dict().items()}
    return {name: moved[id(tensor)].to(devices[name]) for name, tensor in known.state.items()}


def _gap(
    network: nn.Module, images: Tensor, tensors: Mapping[int, Tensor], move: Callable[[], dict[int, Tensor]]
) -> float:
    """By how much of their norm the logits differ once the tensors are moved, which are as before afterwards.

    Hooks, random draws, compiled parts or operations in place may have misled the pass that finds the units.
    """
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    _enliven(network)
    before, moved = network(images), move()
    for key, tensor in tensors.items():
        tensor.copy_(moved[key])
    after = network(images)
    for key, tensor in tensors.items():
        tensor.copy_(kept[key])
    return 0.0 if torch.equal(after, before) else ((after - before).norm() / before.norm()).item()


def _warn_of_a_near_copy(tensors: Iterable[Tensor], moved: Mapping[int, Tensor], held: list[str]) -> None:
    weights = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.dim() > 1]
    norm = sum(float(moved[id(tensor)].double().square().sum()) for tensor in weights) ** 0.5
    apart = sum(float((moved[id(tensor)] - tensor).double().square().sum()) for tensor in weights) ** 0.5
    if apart < NEAR * norm:
        log.warning(
            f"  the permuted copy is only {apart / norm:.2f} of its weights' norm away, where 1.41 is usual: "
            f"{', '.join(held) or 'its layers'} keep units in their order"
        )


def _enliven(network: nn.Module) -> None:
    """Numbers in place of zeros: a head or a branch that begins with zeros would hide what stands before it."""
    draw = seeded(0, "permutation", "zeros")
    for parameter in network.parameters():
        if not parameter.any():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.copy_(0.1 * noise)


def _symmetry(network: nn.Module, images: Tensor) -> Symmetry:
    try:
        symmetry = Symmetry(network)
        symmetry.run(images)
    except InputError:
        raise
    except Exception as error:  # any code of the user's network may fail in any way when it is traced
        raise refusal(f"its forward pass fails while it is looked at: {error or type(error).__name__}") from error
    return symmetry


def _cycles(classes: Tensor, axes: list[Tensor], generator: torch.Generator, held: list[str]) -> Tensor:
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
        kept = f" ({', '.join(held)} keep them in their order)" if held else ""
        raise refusal(f"it has no two hidden units that could change places{kept}")
    source = torch.arange(len(classes))
    for members in alike.values():
        order = torch.tensor(members)[torch.randperm(len(members), generator=generator)]
        source[order] = order.roll(1)
    return source


def _moved(
    tensors: Mapping[int, Tensor], axes: Mapping[int, dict[int | None, Tensor]], classes: Tensor, source: Tensor
) -> dict[int, Tensor]:
    return {key: _move(tensor, axes.get(key, {}), classes, source) for key, tensor in tensors.items()}


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
