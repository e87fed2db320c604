"""What every penalty is: a number that follows from the inner products of the control points."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Penalty(Protocol):
    """A term added to the loss of a fit that knows nothing but how the control points lie to each other."""

    def __call__(self, gram: Tensor) -> Tensor:
        """The term (), differentiable.

        Args:
            gram: Inner products <p_i, p_j> of the K control points, float64 (K, K), in the curve's order.
        """


def pull(penalty: Penalty, gram: Tensor) -> Tensor:
    """A (K, K), float64: the gradient of control point i is sum_j A_ij p_j.

    What depends on inner products alone has a gradient in the span of the points: K x K numbers say all of it, however
    many weights there are.
    """
    leaf = gram.detach().clone().requires_grad_(True)
    (found,) = torch.autograd.grad(penalty(leaf), leaf)
    return found + found.T
