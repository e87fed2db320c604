"""Residual networks with noise after every block, at test time too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcr.architectures.preactivation import PreActivation
from mcr.architectures.wrn import WideBlock
from mcr.errors import InputError
from mcr.numerics.seeding import generator

BLOCKS = 3  # of each stage: ResNet20, which does not count the two convolutions of shortcuts


class EnResNet(nn.Module):
    """The mean over E noisy pre-activation ResNet20s, each with weights of its own (Wang et al. 2019, EnResNet).

    In training mode noise is drawn anew in every pass, from torch's generator, as dropout is. In evaluation mode it is
    a constant of the architecture: the same for all images, passes and networks of a path. The logits are then a
    function of the image alone, and have a gradient.

    So whoever attacks knows the noise: the strongest of threat models. The published attack draws other noise than the
    judge does. On average over seeds the worst perturbation for known noise does no less harm than the worst one for
    all noise. With more draws the two come together, and it is the mean over the noise that is attacked (EOT).

    Args:
        width: Channels of the first stage; the others have two and four times as many.
        copies: E.
        noise: c of every ``NoisyBlock``.
        draws: Of noise in evaluation mode, over which logits are averaged: a pass costs as many.
        seed: Of these draws.
        num_classes: C.
        in_channels: D.
        image_size: H and W.

    Raises:
        InputError: For a number out of its range.
    """

    def __init__(
        self,
        width: int,
        copies: int,
        noise: float,
        draws: int,
        seed: int,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        if min(width, copies, draws) < 1 or not noise >= 0:
            raise InputError(
                f"architecture=enresnet20: width={width}, copies={copies} and draws={draws} must be at least 1, "
                f"noise={noise} at least 0"
            )
        self.draws = draws if noise else 1  # without noise all are alike
        shape = (self.draws, in_channels, *image_size)
        self.copies = nn.ModuleList(
            NoisyResNet(width, noise, generator(seed, "noise", copy), num_classes, shape) for copy in range(copies)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        draws = 1 if self.training else self.draws
        repeated = images.repeat_interleave(draws, 0) if draws > 1 else images
        votes = torch.stack([copy(repeated) for copy in self.copies])
        logits: Tensor = votes.unflatten(1, (-1, draws)).mean((0, 2))
        return logits


class NoisyResNet(PreActivation):
    """One of the copies; without noise a ``WideResNet`` of three blocks a stage.

    Args:
        width: Of the first stage.
        noise: c.
        draw: Gives the noise of evaluation mode.
        num_classes: C.
        shape: (draws, D, H, W).
    """

    def __init__(
        self, width: int, noise: float, draw: torch.Generator, num_classes: int, shape: tuple[int, ...]
    ) -> None:
        draws, inputs, *sides = shape

        def make(inputs: int, outputs: int, stride: int) -> NoisyBlock:
            sides[:] = [-(-side // stride) for side in sides]
            return NoisyBlock(inputs, outputs, stride, noise, torch.randn(draws, outputs, *sides, generator=draw))

        super().__init__(inputs, width, width, BLOCKS, make, num_classes)


class NoisyBlock(WideBlock):
    """y = F(x) + shortcut(x), then y + c std(y) n with n ~ N(0, I), the deviation being that of the image alone.

    The published code takes the deviation of the whole batch: an image's noise depends on its neighbours there.

    Args:
        noise: c; 0 for none.
        bank: n of evaluation mode (draws, D', H', W'); an image's draws follow each other in the batch.
    """

    bank: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int, noise: float, bank: Tensor) -> None:
        super().__init__(inputs, outputs, stride, dropout=0.0)
        self.noise = noise
        self.register_buffer("bank", bank, persistent=False)  # a constant, no weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, H, W) to (B, D', H', W')."""
        output = super().forward(features)
        if self.noise == 0:
            return output
        scale = self.noise * output.std((1, 2, 3), keepdim=True)
        if self.training:
            return output + scale * torch.randn_like(output)
        drawn = (-1, len(self.bank))
        noisy: Tensor = output.unflatten(0, drawn) + scale.unflatten(0, drawn) * self.bank
        return noisy.flatten(0, 1)
