"""A subspace of a user's own networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcr.curves.curve import Curve
from mcr.datasets.augment import Augmentation, to_unit
from mcr.datasets.batches import augmented_batches
from mcr.errors import InputError
from mcr.library.data import Data, labelled
from mcr.library.options import composed, option, section
from mcr.plans import recipes
from mcr.stages.context import Context
from mcr.stages.declared import BatchNorm, validate
from mcr.stages.finished import Finished
from mcr.weightspace import batchnorm, subspace
from mcr.weightspace.states import load_state
from mcr.weightspace.subspace import shares_of_ends
from mcr.weightspace.transform import Transform
from mcr.weightspace.variance import blended, corrected, moments

Place = float | Sequence[float] | Tensor
AS_THEY_ARE = Augmentation(padding=0, flip=0.0)
SETTINGS = ("batchnorm_images", "batchnorm_batch", "precision", "memory_format", "seed")


class Subspace(subspace.Subspace):
    """A path, surface or simplex through networks: ``space.at(u)`` is a network, with BatchNorm estimated there.

    Free control points begin on the blend of the networks (a path on the straight line); ``mcr.fit`` moves them.

    Args:
        networks: Of one architecture, in the order in which the curve joins them; a mapping names them.
        curve: Name of an option of the group ``curve`` ("linear", "bezier", "polychain", "bezier_surface", ...), or
            an object such as ``mcr.option("curve", "polychain", points=5)``.
        images: Those that the networks were trained on: BatchNorm's statistics are estimated from the first of them.
            May be left out where no network has BatchNorm.
        transforms: Done to the weights in turn after blending.
        augmentation: Of these images, as in training.
        **settings: Of the section ``evaluation``: batchnorm_images, batchnorm_batch, precision, memory_format, seed.

    Attributes:
        names: Of the networks.

    Raises:
        InputError: For networks of different architectures, another number of them than the curve joins, or BatchNorm
            without images.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module] | Mapping[str, nn.Module],
        curve: str | Curve,
        images: Data | None = None,
        *,
        transforms: Sequence[Transform] = (),
        augmentation: Augmentation = AS_THEY_ARE,
        **settings: Any,
    ) -> None:
        named = networks if isinstance(networks, Mapping) else dict(zip(_names(len(networks)), networks, strict=True))
        evaluation = composed()["evaluation"]
        chosen = section({key: evaluation[key] for key in SETTINGS}, settings)
        moved = copy.deepcopy(next(iter(named.values())))
        states = [state_like(network, moved, name) for name, network in named.items()]
        if images is None and any(batchnorm.layers(moved)):
            raise InputError(
                "these networks have BatchNorm, whose statistics are estimated anew everywhere: give images="
            )
        kept = {"images": chosen["batchnorm_images"], "batch_size": chosen["batchnorm_batch"]}
        validate(BatchNorm, "Subspace", kept | {name: chosen[name] for name in ("precision", "seed")})
        if recipes.one_of("memory_format", chosen["memory_format"], ("channels_last", "contiguous")) == "channels_last":
            moved.to(memory_format=torch.channels_last)
        self.names = tuple(named)
        super().__init__(
            moved,
            _curve(curve, len(named)),
            states,
            calibration(images, augmentation, chosen, next(moved.parameters()).device),
            chosen["memory_format"],
            chosen["precision"],
            list(transforms),
        )

    @classmethod
    def of_run(cls, folder: str | Path, name: str = "path") -> Subspace:
        """The subspace of a finished run, as its report has it.

        Args:
            folder: Of the run, or of a job of a sweep.
            name: "path", or that of a reference.

        Raises:
            InputError: Where no run lies there, it has no such subspace, or a file of it is damaged.
        """
        context = Context({**composed("runtime=cpu")["runtime"], "threads": 0}, {"kind": "none"}, "", Path())
        found = Finished.of(Path(folder), name, context)
        self = cls.__new__(cls)
        vars(self).update(vars(found.space), names=tuple(found.config["ends"]))
        return self

    def theta(self, u: Place) -> Tensor:
        """The weights at u: a number t along a path, otherwise as many numbers as the curve has coordinates."""
        return super().theta(self.place(u))

    def at(self, u: Place) -> nn.Module:
        """The network at u, in evaluation mode; it is moved by the next call, ``copy.deepcopy`` keeps it."""
        return super().at(self.place(u)).eval()

    def corrected(self, u: Place, images: Data, batch_size: int) -> nn.Module:
        """A copy of the network at u whose hidden units have the moments of the ends (REPAIR, Jordan et al. 2023).

        What lies between networks has smaller activations than they have: each unit's mean and standard deviation
        become the ends' own, blended by their shares at u. For layers without BatchNorm, whose statistics ``at``
        estimates anyway.

        Args:
            u: The place.
            images: That moments are measured on.
            batch_size: Of these, at a time.
        """
        device = next(self.network.parameters()).device
        parts = labelled(images).images.split(batch_size)

        def batches() -> Iterator[Tensor]:
            return (to_unit(part.to(device), "contiguous") for part in parts)

        ends = [moments(self.end_as_given(index), batches) for index in range(len(self.ends))]
        network = copy.deepcopy(self.at(u))
        targets = blended(ends, shares_of_ends(self.curve, self.place(u)).tolist())
        load_state(network, corrected(network, targets, batches), strict=False)
        return network

    def place(self, u: Place) -> Tensor:
        """A place as float64 (dim,). Raises InputError for one outside the curve's domain."""
        found = torch.as_tensor(u, dtype=torch.float64).reshape(-1)
        self.curve.check(found)
        return found


def _names(count: int) -> tuple[str, ...]:
    """What networks are called that nobody named.

    >>> _names(2), _names(3)
    (('start', 'end'), ('first', 'second', 'third'))
    """
    if count == 2:
        return ("start", "end")
    few = ("first", "second", "third", "fourth")
    return few[:count] if count <= len(few) else tuple(f"network{index}" for index in range(1, count + 1))


def _curve(curve: str | Curve, count: int) -> Curve:
    if not isinstance(curve, str):
        return curve
    many = {"ends": count} if curve == "simplex" else {}  # the one curve that joins any number of networks
    found: Curve = option("curve", curve, **many)
    return found


def state_like(network: nn.Module, first: nn.Module, name: str) -> dict[str, Tensor]:
    """A copy of a network's state. Raises InputError where it is of another architecture than the first."""
    state, wanted = network.state_dict(), first.state_dict()
    for key in (*wanted, *state):
        if key not in state or key not in wanted or state[key].shape != wanted[key].shape:
            raise InputError(f"the networks are of different architectures: {key} of {name} differs from the first's")
    return {key: tensor.detach().clone() for key, tensor in state.items()}


def calibration(
    images: Data | None, augmentation: Augmentation, chosen: Mapping[str, Any], device: torch.device
) -> Callable[[], Iterator[Tensor]]:
    """The images that estimate BatchNorm, anew and the same at each call.

    Args:
        images: The first of them are taken; None where there is no BatchNorm.
        augmentation: Of these.
        chosen: batchnorm_images, batchnorm_batch, memory_format and seed of the section ``evaluation``.
        device: Where they are wanted.
    """
    if images is None:
        return lambda: iter(())
    most = None if chosen["batchnorm_images"] == "all" else chosen["batchnorm_images"]
    pixels = labelled(images).images[:most].to(device)
    return partial(
        augmented_batches, pixels, augmentation, chosen["batchnorm_batch"], chosen["memory_format"], chosen["seed"]
    )
