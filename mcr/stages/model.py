"""The network of a run: the architecture behind its normalisation, tried on two images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.numerics.seeding import seed_for
from mcr.stages import hints, trial
from mcr.stages.artifacts import DataSpec
from mcr.store import build
from mcr.weightspace.layout import Layout
from mcr.weightspace.states import check_tensors


def make(config: Mapping[str, Any], spec: DataSpec, seed: str) -> Normalized:
    """The network with initial weights drawn from the seed, in [0, 1] pixel space.

    Args:
        config: ``architecture`` and ``normalization``.
        spec: The data's facts, passed to a constructor that asks for them by name.
        seed: Of the initial weights.

    Raises:
        InputError: Where it cannot be built, or does not turn these images into one logit per class.
    """
    architecture, told = config["architecture"], hints.facts(spec)

    def made(architecture: Mapping[str, Any]) -> Normalized:
        # Constructors, lazy layers and dropout draw from the global generator; the fork gives it back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "weights"))
            network = build.network(architecture, told)
            if not isinstance(network, torch.nn.Module):
                kind = type(network).__name__
                raise InputError(f"architecture {architecture['_target_']} gives a {kind}, no torch.nn.Module")
            mean, std = build.build(config["normalization"], statistics=(spec.mean, spec.std))
            model = Normalized(network, mean, std)
            check_tensors(network, architecture["_target_"])
            trial.refuse_unusable(model, spec, architecture["_target_"])
            return model

    try:
        model = made(architecture)
    except InputError as error:
        words = hints.words(architecture, spec, made)
        if words:
            raise InputError(f"{error}; {words} makes it fit") from error
        raise
    Layout.of(model, "contiguous")
    return model


def refuse_single(config: Mapping[str, Any], spec: DataSpec, seed: str) -> None:
    """Raises InputError where the network cannot be trained on one image at a time: BatchNorm has no spread then."""
    model = make(config, spec, seed).train()
    try:
        with torch.no_grad():
            model(torch.zeros(1, spec.channels, *spec.image_size))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"batch_size=1: {config['architecture']['_target_']} cannot be trained on single images: "
            f"{str(error).splitlines()[0]}"
        ) from None
