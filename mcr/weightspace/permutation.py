"""The same function far away in weight space: a network with its hidden units permuted."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.weightspace.groups import Group, moved
from mcr.weightspace.movable import Movable

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
    given = network.state_dict()
    state = {name: tensor.detach().cpu() for name, tensor in given.items()}
    try:
        movable = Movable(network, image_shape)
        groups, (orders,) = movable.settle([state], lambda groups: [[_cycle(group, generator) for group in groups]])
    except InputError as error:
        raise InputError(f"{error}; repair with two models or with a fine-tuned copy") from error
    found = moved(state, groups, orders)
    _warn_of_a_near_copy(state, found, movable.held)
    return {name: found[name].clone().to(tensor.device) for name, tensor in given.items()}


def _cycle(group: Group, generator: torch.Generator) -> Tensor:
    """A random order of the members (m,): one cycle, so that none stays."""
    drawn = torch.randperm(len(group.members), generator=generator)
    return torch.empty_like(drawn).index_copy_(0, drawn, drawn.roll(1))


def _warn_of_a_near_copy(state: Mapping[str, Tensor], found: Mapping[str, Tensor], held: list[str]) -> None:
    weights = [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.dim() > 1]
    norm = sum(float(found[name].double().square().sum()) for name in weights) ** 0.5
    apart = sum(float((found[name] - state[name]).double().square().sum()) for name in weights) ** 0.5
    if apart < NEAR * norm:
        log.warning(
            f"  the permuted copy is only {apart / norm:.2f} of its weights' norm away, where 1.41 is usual: "
            f"{', '.join(held) or 'its layers'} keep units in their order"
        )
