"""The model at theta: any module whose parameters are views of one flat vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcr.weightspace.layout import Layout


class ModelAt:
    """Binds a module to a flat buffer; writing theta there moves the module through weight space.

    Autograd then runs on the module's own parameters, so a step costs what a plain step costs; differentiating
    through slices of one flat tensor would allocate a zero vector of size P for each slice.

    Attributes:
        theta: The current weights (P,); written by ``place``.
        gradient: The gradient with respect to theta (P,); filled by an ordinary backward pass.
    """

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        parameters = dict(network.named_parameters())
        first = next(iter(parameters.values()))
        self.theta = torch.empty(layout.size, dtype=first.dtype, device=first.device)
        self.gradient = torch.zeros_like(self.theta)
        gradients = layout.views(self.gradient)
        for name, view in layout.views(self.theta).items():
            view.copy_(parameters[name].detach())
            parameters[name].data = view
            parameters[name].grad = gradients[name]

    def place(self, coefficients: Tensor, points: list[Tensor]) -> None:
        """Write theta = sum of c_k times point k.

        Args:
            coefficients: float64 (K,) on the CPU.
            points: K vectors (P,).
        """
        torch.mul(points[0], coefficients[0].item(), out=self.theta)
        for value, point in zip(coefficients[1:].tolist(), points[1:], strict=True):
            if value != 0.0:
                self.theta.add_(point, alpha=value)
