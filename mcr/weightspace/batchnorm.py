"""BatchNorm's running statistics at a point of weight space."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcr.numerics import shares


def layers(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    found = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [layer for layer in found if layer.track_running_stats]


@torch.no_grad()
def refresh(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the statistics anew as the average over batches of images (B, D, H, W); the mode is as before after.

    Each batch is normalised by its own statistics, as in training, and counts by its images: a short last one for less
    (Garipov et al. 2018). Dropout stays off, as in the evaluation that uses the averages
    (``torch.optim.swa_utils.update_bn`` would switch it on). Where several processes train together, each gives its
    rows of every batch, and all get the statistics of the whole one.

    Raises:
        ValueError: For a batch with a single value per channel, which has no variance.
    """
    found = [_Average(layer) for layer in layers(network)]
    if not found:
        return
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        for average in found:
            average.begin()
        with _uncompiled():
            seen = first = 0
            for images in batches:
                first = first or len(images)
                if seen % first or len(images) != first:  # torch's own cumulative average would count it as a whole one
                    for average in found:
                        average.layer.momentum = len(images) / (seen + len(images))
                network(images)
                seen += len(images)
        for average in found:
            average.finish()
    finally:
        for average in found:
            average.end()
        for module, training in modes:
            module.training = training
        # Weights cast for autocast inside no_grad must not serve a later pass that needs gradients.
        torch.clear_autocast_cache()


def _uncompiled() -> AbstractContextManager[object]:
    """A compiled network would run its graph of an ordinary pass, which knows nothing of what is done here."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and to look would take a second
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


class _Average:
    """The statistics of one layer: of the batch that comes in, for its normalisation, and their average so far.

    In two passes: torch's own kernel for channels_last adds up a million numbers in one go on a CPU, which leaves
    errors of 1e-4 in a variance. It also asks the device for its count at every batch where no momentum is set.
    Takes the place of the layer's ``forward``, however the network calls that. A network that hands the layer's
    tensors to a function of its own gets torch's cumulative average, by the layer's training mode.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self.layer, self.running = layer, (layer.running_mean, layer.running_var)
        self.sums = tuple(torch.zeros_like(kept) for kept in self.running)
        self.count = self.first = 0
        self.weight = 0.0  # of the batches so far, the first one's being 1
        self.momentum, self.forward, self.own = layer.momentum, layer.forward, "forward" in vars(layer)

    def begin(self) -> None:
        """Stand in for the layer's forward pass."""
        self.layer.reset_running_stats()
        self.layer.momentum = None
        self.layer.train()
        self.layer.forward = self  # type: ignore[method-assign]

    def __call__(self, input: Tensor) -> Tensor:  # the name by which the layer takes it
        number = input.numel() // input.shape[1]
        if number * shares.processes()[1] < 2:
            raise ValueError(f"BatchNorm cannot be estimated from a single value per channel: {tuple(input.shape)}")
        others = [dimension for dimension in range(input.dim()) if dimension != 1]
        wide = torch.promote_types(input.dtype, torch.float32)
        mean, whole = shares.mean(input.mean(others, keepdim=True, dtype=wide), number)
        variance, _ = shares.mean((input - mean).square_().mean(others), number)
        # A batch is normalised by its plain variance; what is kept is the unbiased one, as torch does it.
        for kept, found in zip(self.running, (mean.flatten(), variance), strict=True):
            kept.copy_(found)
        self.first = self.first or len(input)
        share = len(input) / self.first
        for total, found in zip(self.sums, (mean.flatten(), variance * (whole / (whole - 1))), strict=True):
            total += share * found
        self.weight += share
        self.count += 1
        self.layer.eval()
        try:
            output: Tensor = self.forward(input)
        finally:
            self.layer.train()
        return output

    def finish(self) -> None:
        """The averages become the layer's running statistics."""
        if self.count:
            for kept, total in zip(self.running, self.sums, strict=True):
                kept.copy_(total / self.weight)
            assert self.layer.num_batches_tracked is not None
            self.layer.num_batches_tracked.fill_(self.count)

    def end(self) -> None:
        """The layer is itself again."""
        self.layer.momentum = self.momentum
        if self.own:
            self.layer.forward = self.forward  # type: ignore[method-assign]
        elif "forward" in vars(self.layer):
            del self.layer.forward
