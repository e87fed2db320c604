"""BatchNorm over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcr.numerics import shares


def synchronise(network: nn.Module) -> None:
    """Let every BatchNorm layer normalise by the images of all processes, on any device, from now on.

    torch's own SyncBatchNorm refuses CPUs, and takes the place of the layers. As there, a network that hands a layer's
    tensors to a function of its own is not reached.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = _Synchronised(layer)  # type: ignore[method-assign]


class _Synchronised:
    """Stands in for a layer's forward pass: that of Ioffe and Szegedy (2015), statistics of the whole batch.

    In two passes, as ``batchnorm.refresh`` has it: the mean first, then the squares of what differs from it.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer, self.forward = layer, layer.forward

    def __call__(self, input: Tensor) -> Tensor:  # the name by which the layer takes it
        layer = self.layer
        if not layer.training and layer.running_mean is not None:
            found: Tensor = self.forward(input)
            return found
        others = [dimension for dimension in range(input.dim()) if dimension != 1]
        shape = [1, -1, *(1 for _ in others[1:])]
        wide = torch.promote_types(input.dtype, torch.float32)
        own = input.numel() // input.shape[1]
        average, count = shares.mean(input.mean(others, dtype=wide), own)
        centred = input - average.view(shape)
        variance, _ = shares.mean(centred.square().mean(others), own)
        self._keep(average.detach(), variance.detach(), count)
        normal = centred * (variance + layer.eps).rsqrt().view(shape)
        if layer.weight is not None:
            normal = normal * layer.weight.view(shape) + layer.bias.view(shape)
        return normal.to(input.dtype)

    @torch.no_grad()
    def _keep(self, average: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Move the running statistics; the unbiased variance, as torch does it."""
        layer = self.layer
        if not layer.training or layer.running_mean is None:
            return
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked += 1
        momentum = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
        for kept, found in ((layer.running_mean, average), (layer.running_var, variance * (count / (count - 1)))):
            kept += momentum * (found.to(kept.dtype) - kept)
