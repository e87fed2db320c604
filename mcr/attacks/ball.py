"""The ball around an image, in the linf and the l2 norm: projection, random point, steepest step."""

from __future__ import annotations

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.numerics.shares import drawn

NORMS = ("linf", "l2")
TINY = 1e-12  # keeps the direction of a zero gradient finite


def check(name: str, eps: float, norm: str) -> None:
    """Raises InputError for an unknown norm, or a radius outside [0, inf), of linf [0, 1]."""
    if norm not in NORMS:
        raise InputError(f"{name}: norm={norm} must be {' or '.join(NORMS)}")
    if not 0 <= eps < float("inf"):
        raise InputError(f"{name}: eps={eps} must be a radius of at least 0, in [0, 1] pixel units")
    if norm == "linf" and eps > 1:
        raise InputError(f"{name}: eps={eps:g} is more than all of [0, 1], in which pixels lie: write {eps:g}/255")


def _lengths(delta: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(TINY)
    return lengths.view(-1, 1, 1, 1)


def project(images: Tensor, center: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest point of the ball, then of [0, 1]; (B, D, H, W). Clamping after never leaves the ball."""
    delta = images - center
    delta = delta.clamp_(-eps, eps) if norm == "linf" else delta.mul_((eps / _lengths(delta)).clamp_max(1.0))
    return delta.add_(center).clamp_(0, 1)


def random_point(center: Tensor, eps: float, norm: str, generator: torch.Generator) -> Tensor:
    """A uniform point of the ball, clamped to [0, 1]; drawn on the CPU so that every device sees the same."""
    if norm == "linf":
        noise = _moved(drawn(torch.rand, center.shape, generator), center.device)
        return (center + noise.mul_(2 * eps).sub_(eps)).clamp_(0, 1)
    noise = _moved(drawn(torch.randn, center.shape, generator), center.device)
    radius = _moved(drawn(torch.rand, (len(center), 1, 1, 1), generator), center.device)
    dimensions = center[0].numel()
    return (center + noise / _lengths(noise) * eps * radius.pow(1 / dimensions)).clamp_(0, 1)


def _moved(draws: Tensor, device: torch.device) -> Tensor:
    """Draws on a device; from pinned memory, so that the CPU need not wait until the device has taken them."""
    return draws.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else draws


def ascent(gradient: Tensor, norm: str) -> Tensor:
    """The direction of unit length that raises the loss most: sign for linf, normalised gradient for l2."""
    return gradient.sign() if norm == "linf" else gradient / _lengths(gradient)
