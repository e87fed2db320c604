"""The network of a run: the architecture behind its normalisation, checked on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.numerics.seeding import seed_for
from mcr.stages.artifacts import DataSpec
from mcr.store import build
from mcr.weightspace.layout import Layout


def make(config: Mapping[str, Any], spec: DataSpec, seed: str) -> Normalized:
    """The network with initial weights drawn from the seed, in [0, 1] pixel space.

    Args:
        config: ``architecture`` and ``normalization``.
        spec: The data's facts, passed to a constructor that asks for them by name.
        seed: Of the initial weights.

    Raises:
        InputError: Where it cannot be built, or does not turn these images into one logit per class.
    """
    facts = {
        "num_classes": len(spec.classes),
        "in_channels": spec.channels,
        "in_chans": spec.channels,
        "image_size": spec.image_size,
        "img_size": spec.image_size,
    }
    architecture = config["architecture"]
    # Constructors and lazy layers draw from the global generator; the fork gives it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        network = build.network(architecture, facts)
        if not isinstance(network, torch.nn.Module):
            kind = type(network).__name__
            raise InputError(f"architecture {architecture['_target_']} gives a {kind}, no torch.nn.Module")
        mean, std = build.build(config["normalization"], statistics=(spec.mean, spec.std))
        model = Normalized(network, mean, std)
        _check(model, spec, architecture["_target_"])
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


def _check(model: Normalized, spec: DataSpec, name: str) -> None:
    """A forward pass in both modes; lazy layers get their shapes here, buffers are put back."""
    if any(isinstance(m, _InstanceNorm) and m.track_running_stats for m in model.modules()):
        raise InputError(f"{name} has InstanceNorm with running statistics, which cannot be estimated along a path")
    images = torch.zeros(2, spec.channels, *spec.image_size)
    modes = [(module, module.training) for module in model.modules()]
    for training in (False, True):
        model.train(training)
        buffers = {key: tensor.clone() for key, tensor in model.named_buffers() if not is_lazy(tensor)}
        try:
            with torch.no_grad():
                logits = model(images)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            shape = "x".join(map(str, images.shape[1:]))
            raise InputError(f"{name} cannot take images {shape}: {str(error).splitlines()[0]}") from error
        for key, tensor in model.named_buffers():
            if key in buffers:
                tensor.copy_(buffers[key])
        if not isinstance(logits, torch.Tensor) or logits.shape != (2, len(spec.classes)):
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
            mode = "training" if training else "evaluation"
            raise InputError(
                f"{name} gives {got} for 2 images in {mode} mode; (2, {len(spec.classes)}) logits are needed"
            )
    for module, training in modes:
        module.training = training
