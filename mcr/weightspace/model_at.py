"""The model at theta: any module whose parameters are views of one flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform

BLOCK = 2**19  # numbers of a vector at a time


class ModelAt:
    """Binds a module to a flat buffer; writing theta there moves the module through weight space.

    Autograd then runs on the module's own parameters, so a step costs what a plain step costs; differentiating
    through slices of one flat tensor would allocate a zero vector of size P for each slice.

    Attributes:
        theta: The current weights (P,); written by ``place``.
    """

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        self.layout, self.parameters = layout, dict(network.named_parameters())
        first = next(iter(self.parameters.values()))
        self.theta = torch.empty(layout.size, dtype=first.dtype, device=first.device)
        for name, view in layout.views(self.theta).items():
            view.copy_(self.parameters[name].detach())
            self.parameters[name].data = view

    def place(self, coefficients: Tensor, points: Sequence[Tensor]) -> None:
        """Write theta = sum of c_k times point k.

        Args:
            coefficients: float64 (K,) on the CPU.
            points: K vectors (P,).
        """
        first, *others = coefficients.tolist()
        # Block by block, so that a sum stays in the CPU's cache until it is complete.
        size = BLOCK if self.theta.device.type == "cpu" else len(self.theta)
        for theta, *parts in zip(*(vector.split(size) for vector in (self.theta, *points)), strict=True):
            torch.mul(parts[0], first, out=theta)
            for value, part in zip(others, parts[1:], strict=True):
                if value != 0.0:
                    theta.add_(part, alpha=value)

    @torch.no_grad()
    def take_gradients(
        self, decay: float, coefficients: Sequence[float], out: Tensor, transforms: Sequence[Transform]
    ) -> None:
        """For each coefficient c, c times the gradient with respect to theta of what went backward.

        The parameters' own gradients are gone afterwards. One that learns but was not reached decays all the same;
        one that does not learn has a gradient of zero.

        Args:
            decay: The gradient is that of the loss plus decay / 2 |theta|^2.
            coefficients: F of them, at least one.
            out: Where they are written (F, P).
            transforms: What was done to theta after blending, in turn; their ``pull_`` is applied backwards.
        """
        *others, last = out.unbind()
        views = [self.layout.views(vector) for vector in others]
        places = self.layout.views(self.theta)
        # Parameter by parameter, so that a gradient is still in the CPU's cache when it is scaled.
        for name, view in self.layout.views(last).items():
            parameter = self.parameters[name]
            if not parameter.requires_grad:
                view.zero_()
            elif parameter.grad is None:
                torch.mul(places[name], decay, out=view)
            else:
                torch.add(parameter.grad, places[name], alpha=decay, out=view)
            parameter.grad = None
            if not transforms:
                self._scale(view, [other[name] for other in views], coefficients)
        if transforms:
            for transform in reversed(transforms):
                transform.pull_(last, self.layout)
            self._scale(last, others, coefficients)

    @staticmethod
    def _scale(last: Tensor, others: Sequence[Tensor], coefficients: Sequence[float]) -> None:
        for coefficient, other in zip(coefficients[:-1], others, strict=True):
            torch.mul(last, coefficient, out=other)
        last.mul_(coefficients[-1])
