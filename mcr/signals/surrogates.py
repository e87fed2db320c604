"""Surrogates of an unknown trigger: for each class a change of images that moves all suspects to it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from mcr.attacks.frozen import frozen
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.probes.divergence import log_probabilities


class Surrogates(Protocol):
    """One change of images for each class."""

    def put(self, images: Tensor, classes: slice) -> Tensor:
        """Images (n, D, H, W) in [0, 1] as the surrogates of c classes change them: (c, n, D, H, W)."""


@contextmanager
def still(suspects: Sequence[nn.Module]) -> Iterator[int]:
    """The suspects while surrogates are fitted: evaluation mode, no gradients of parameters, as before afterwards."""
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():
        for suspect in suspects:
            stack.enter_context(frozen(suspect))
        yield len(suspects)


def shares(images: EvaluationBatches, fitted: int, tried: int, draw: torch.Generator) -> list[EvaluationBatches]:
    """Images to fit surrogates on and others to try them on; where they are few, the same ones again.

    Args:
        images: All N of them.
        fitted: To fit on, at most.
        tried: To try on, at most.
        draw: Of their order.
    """
    order = torch.randperm(len(images.images), generator=draw).to(images.labels.device)
    parts = order[:fitted], order.roll(-fitted)[:tried]
    return [images.like(images.images[part], images.labels[part]) for part in parts]


def targets(suspects: Sequence[nn.Module], images: EvaluationBatches) -> Tensor:
    """Which image could be moved to which class, because its label is another one: bool (C, n)."""
    first = log_probabilities(suspects[0], [next(iter(images.like(images.images[:1], images.labels[:1])))])
    return torch.arange(first.shape[1], device=images.labels.device)[:, None] != images.labels


def told(fitted: Tensor, tried: Tensor) -> Tensor:
    """Which image a surrogate is judged by: those of another label, where the surrogate had any to be fitted on.

    Args:
        fitted: Of ``targets``, bool (C, n).
        tried: Likewise, bool (C, m).

    Returns:
        bool (C, m), on the CPU.

    Raises:
        InputError: Where there is none.
    """
    found = (tried & fitted.any(1, keepdim=True)).cpu()
    if not bool(found.any()):
        raise InputError("signal: the clean images show one class alone; of a second class, too, there must be some")
    return found


def pieces(classes: int, images: EvaluationBatches) -> list[slice]:
    """Classes whose changed images make one pass, so that memory does not grow with the number of classes."""
    step = max(1, images.batch_size // len(images.images))
    return [slice(first, min(first + step, classes)) for first in range(0, classes, step)]


def slope(
    suspects: Sequence[nn.Module], shown: Tensor, classes: slice, counts: Tensor, images: EvaluationBatches
) -> Tensor:
    """The gradient of sum_i mean_x CE(e_i(x'), c) at the changed images x', one batch and one suspect e_i at a time.

    Args:
        suspects: See ``still``.
        shown: x' of c classes, (c, n, D, H, W).
        classes: These classes, of C.
        counts: Of ``targets``, bool (C, n): the others have no share in the mean.
        images: Those that were changed, for their memory format and the size of batches.

    Returns:
        (c, n, D, H, W).
    """
    aims = torch.arange(classes.start, classes.stop, device=shown.device).repeat_interleave(shown.shape[1])
    weights = counts[classes].float() / counts[classes].sum(1, keepdim=True).clamp_min(1)
    found = []
    for part in zip(*(whole.split(images.batch_size) for whole in (shown.detach().flatten(0, 1), aims)), strict=True):
        leaf, aim = part[0].clone().requires_grad_(True), part[1]
        for suspect in suspects:
            losses = cross_entropy(suspect(to_unit(leaf, images.memory_format)), aim)
            losses.sum().backward()
        assert leaf.grad is not None
        found.append(leaf.grad)
    return torch.cat(found).view_as(shown) * weights[..., None, None, None]


@torch.no_grad()
def reached(network: nn.Module, surrogates: Surrogates, classes: int, tried: EvaluationBatches) -> Tensor:
    """Whether a network answers each image that is changed towards a class with it, and how probable it finds it.

    Args:
        network: In evaluation mode.
        surrogates: Of C classes.
        classes: C.
        tried: The images, uint8 (n, D, H, W).

    Returns:
        float64 (2, C, n) on the CPU.
    """
    images = to_unit(tried.images, tried.memory_format)
    found = []
    for part in pieces(classes, tried):
        shown = surrogates.put(images, part)
        answers = log_probabilities(network, tried.like(shown.flatten(0, 1), tried.labels.repeat(len(shown))))
        aims = torch.arange(part.start, part.stop).repeat_interleave(len(images))
        hits = (answers.argmax(1) == aims).double()
        found.append(torch.stack([hits, answers.gather(1, aims[:, None])[:, 0].exp()]).view(2, *shown.shape[:2]))
    return torch.cat(found, dim=1)
