"""Alignment of a user's own networks: the same functions, nearer to each other in weight space."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from mcr.edits.edit import shape_of
from mcr.errors import InputError
from mcr.library.data import Data, labelled
from mcr.library.options import composed, section
from mcr.library.subspace import state_like
from mcr.numerics.seeding import generator
from mcr.plans import recipes
from mcr.store.build import build_tree
from mcr.types import LabelledImages
from mcr.weightspace.alignment import jointly
from mcr.weightspace.states import load_state

Network = TypeVar("Network", bound=nn.Module)
Shape = tuple[int, int, int]
METHODS = ("match_weights", "match_activations")


def align(
    network: Network,
    reference: nn.Module,
    images: Data | Shape,
    method: str = "match_weights",
    *,
    seed: int | str = 0,
    **settings: Any,
) -> Network:
    """A copy of a network with its hidden units in the order of another network's; it computes the same logits.

    The networks that are given stay as they are.

    Args:
        network: To be aligned.
        reference: Of the same architecture.
        images: That units are compared on, or, for ``match_weights``, their shape (D, H, W) alone.
        method: Name of an option of the group ``edit``: "match_weights" (Ainsworth et al. 2023) or "match_activations"
            (Li et al. 2016).
        seed: Of what is drawn.
        **settings: Of the option: tries; images, batch_size.

    Raises:
        InputError: For networks of different architectures, one whose units are not understood, or a wrong setting.
    """
    recipes.one_of("method", method, METHODS)
    data = _data(images, network)
    if method == "match_activations" and not len(data.labels):
        raise InputError("match_activations needs images, not their shape alone")
    edit = _edit(method, settings)
    found = copy.deepcopy(network)
    edited = edit(network, [state_like(reference, network, "reference")], data, generator(seed, edit.draws))
    load_state(found, edited.tensors)
    return found


def align_jointly(
    networks: Sequence[Network], images: Data | Shape, *, seed: int | str = 0, **settings: Any
) -> list[Network]:
    """Copies of networks with their hidden units in one common order, that of the first.

    What ends of a surface, and averages of more than two, need: networks that are each aligned with the first are not
    aligned with one another.

    Args:
        networks: Two or more of one architecture; they stay as they are.
        images: Of the shape that they take, or this shape (D, H, W).
        seed: Of what is drawn.
        **settings: Of the option ``edit=match_jointly``: tries.

    Raises:
        InputError: See ``align``.
    """
    if len(networks) < 2:
        raise InputError("align_jointly needs at least two networks")
    edit = _edit("match_jointly", settings, position=0)
    states = [state_like(one, networks[0], "a network") for one in networks]
    shape = shape_of(_data(images, networks[0]))
    aligned = jointly(networks[0], states, shape, edit.tries, generator(seed, edit.draws))
    found = [copy.deepcopy(network) for network in networks]
    for network, one in zip(found, aligned, strict=True):
        load_state(network, one.state)
    return found


def _edit(method: str, settings: Mapping[str, Any], **values: int) -> Any:
    """An edit with the defaults of its YAML."""
    config = composed(f"+edit@endpoints.end.edits.asked={method}")["endpoints"]["end"]["edits"]["asked"]
    known = {name: value for name, value in config.items() if name not in recipes.PLANNED}
    return build_tree(section(known, settings), **values)


def _data(images: Data | Shape, network: nn.Module) -> LabelledImages:
    """Images on the network's device; none where only their shape is known."""
    if isinstance(images, tuple) and len(images) == 3:
        return LabelledImages(torch.zeros(0, *images, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    found, device = labelled(images), next(network.parameters()).device
    return LabelledImages(found.images.to(device), found.labels.to(device))
