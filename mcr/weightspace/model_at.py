"""The model at theta: any module whose parameters are views of one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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

    def place(self, coefficients: Tensor, blocks: Iterable[Sequence[Tensor]]) -> None:
        """Write theta = sum of c_k times point k.

        Args:
            coefficients: float64 (K,) on the CPU.
            blocks: Of the points, from the first number to the last: the pieces of all K, each (W,) of any W. Where a
                block fits the CPU's cache, the sum stays there until it is complete.
        """
        first, *others = coefficients.tolist()
        begin = 0
        for block in blocks:
            theta = self.theta[begin : begin + len(block[0])]
            torch.mul(block[0], first, out=theta)
            for value, part in zip(others, block[1:], strict=True):
                if value != 0.0:
                    theta.add_(part, alpha=value)
            begin += len(theta)

    @torch.no_grad()
    def gradient(self, decay: float, transforms: Sequence[Transform]) -> Tensor:
        """The gradient (P,), in the weights before the transforms, of what went backward.

        The parameters' own gradients are gone afterwards. One that learns but was not reached decays all the same;
        one that does not learn has a gradient of zero.

        Args:
            decay: The gradient is that of the loss plus decay / 2 |theta|^2.
            transforms: What was done to theta after blending, in turn; their ``pull_`` is applied backwards.
        """
        found = torch.empty_like(self.theta)
        places = self.layout.views(self.theta)
        for name, view in self.layout.views(found).items():
            parameter = self.parameters[name]
            if not parameter.requires_grad:
                view.zero_()
            elif parameter.grad is None:
                torch.mul(places[name], decay, out=view)
            else:
                torch.add(parameter.grad, places[name], alpha=decay, out=view)
            parameter.grad = None
        for transform in reversed(transforms):
            transform.pull_(found, self.layout)
        return found


def blocks(points: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Points (P,) in the blocks that ``ModelAt.place`` takes: small ones on the CPU, where one fits the cache."""
    size = BLOCK if points[0].device.type == "cpu" else len(points[0])
    yield from zip(*(point.split(size) for point in points), strict=True)
