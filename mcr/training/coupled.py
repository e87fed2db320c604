"""Optimizers that cannot move control points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mcr.errors import InputError


def refuse_coupled(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Raises InputError for an optimizer that moves a number otherwise when the gradient of another one changes.

    Control points are moved in blocks, whose borders mean nothing: an optimizer that looks at a tensor as a whole
    (Adafactor, Muon, L-BFGS) would see them. It is tried on two small matrices that differ in one gradient.
    """
    moved = []
    for other in (1.0, 3.0):
        matrix = nn.Parameter(torch.ones(2, 2))
        optimizer = make([matrix])
        try:
            for scale in (1.0, 0.5):
                matrix.grad = scale * torch.tensor([[0.3, -0.2], [0.1, other]])
                optimizer.step()
        except TypeError:  # it wants to evaluate the loss by itself
            break
        moved.append(matrix.detach().flatten()[:3])
    if len(moved) < 2 or not torch.equal(*moved):
        name = type(optimizer).__name__
        raise InputError(f"{name} does not move every number by itself: fit paths with SGD, Adam or the like")
