"""Whether the gradient in the image, which attacks go by, is the slope of a network's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

# Of images in [0, 1]: one of them lies above rounding and below the distance to the kinks of a network.
NEAR = {torch.float64: (1e-6, 1e-7, 1e-5, 1e-4, 1e-3), torch.float32: (1e-2, 3e-3, 1e-3)}
FAR = (0.03, 0.1, 0.3)  # across the steps of a network that rounds
DIRECTIONS = 8  # an image, where the first of each does not agree
ROUNDING = 30  # in machine epsilons of the answers: differences below say nothing
AGREE = {torch.float64: 0.02, torch.float32: 0.1}  # of the sum of both lengths; kinks alone stay below


def fault(answers: Callable[[Tensor], Tensor], images: Tensor, draw: torch.Generator) -> Literal["", "wrong", "flat"]:
    """Compare directional derivatives by autograd with central differences, along random directions.

    A straight-through gradient (Bengio et al. 2013), which is not the slope at any point but that over many steps of a
    rounding, is no fault: differences over a long way must agree with it clearly better than those over a short one.

    Args:
        answers: Images (N, D, H, W) to one number each (N,), a differentiable function of its own image only.
        images: (N, D, H, W) in [0, 1], float64, or float32 where the network takes no other.
        draw: Of the directions.

    Returns:
        "wrong" for a gradient that leaves out, or makes up, a part of the slope; "flat" where gradient and slope are
        zero, yet far images have other answers: the network rounds, and gradients do not say where to go.
    """
    agree, steps = AGREE[images.dtype], NEAR[images.dtype]
    found, vectors = _products(answers, images, draw)
    if any(_apart(answers, images, found, vectors, step) <= agree for step in steps):
        return "flat" if not found.any() and _apart(answers, images, found, vectors, FAR[-1]) > agree else ""
    images = images.repeat(DIRECTIONS, 1, 1, 1)
    found, vectors = _products(answers, images, draw)
    near, far = (min(_apart(answers, images, found, vectors, step) for step in some) for some in (steps, FAR))
    return "wrong" if near > agree and far > near / 2 else ""


def _products(answers: Callable[[Tensor], Tensor], images: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of the gradients with random directions, one an image: (N,), (N, D, H, W)."""
    vectors = torch.randn(images.shape, generator=draw, dtype=images.dtype)
    with torch.enable_grad():
        leaf = images.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(answers(leaf).sum(), leaf)
    return (gradient * vectors).flatten(1).sum(1), vectors


@torch.no_grad()
def _apart(answers: Callable[[Tensor], Tensor], images: Tensor, found: Tensor, vectors: Tensor, step: float) -> float:
    """How far products and differences are from each other, as a share of the sum of their lengths."""
    ahead, behind = answers(images + step * vectors), answers(images - step * vectors)
    differences = (ahead - behind) / (2 * step)
    unseen = ROUNDING * torch.finfo(images.dtype).eps * ahead.norm() / step
    whole = differences.norm() + found.norm() + unseen
    return float((differences - found).norm() / whole) if whole > 0 else 0.0
