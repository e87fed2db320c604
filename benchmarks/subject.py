"""A small VGG on scikit-learn's digits, enlarged to the size of CIFAR-10: real images that need no download."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.architectures.normalization import Normalized
from mcr.architectures.small_vgg import SmallVgg
from mcr.attacks.pgd import Pgd
from mcr.datasets.digits import Digits
from mcr.objectives.fgsm_rs import FgsmRs

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
BATCH = 128


def images() -> tuple[Tensor, Tensor]:
    """All digits as float images (N, 3, 32, 32) and labels (N,)."""
    part = Digits().load().parts["all"]
    small = part.images.float() / 255
    return functional.interpolate(small, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous(), part.labels


def trained(epochs: int = 2) -> nn.Module:
    """The network after brief training under one-step attacks, so that losses and gradients are not those of noise."""
    torch.manual_seed(0)
    network = Normalized(SmallVgg(width=32, num_classes=10, in_channels=3), (0.3,) * 3, (0.3,) * 3)
    pixels, labels = images()
    attack = Pgd(eps=EPS, step_size=STEP, steps=STEPS, norm="linf", start="random", restarts=1)
    objective = FgsmRs(attack, 1.25)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    draw = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=draw).split(BATCH):
            losses, _ = objective(network.train(), pixels[chosen], labels[chosen], draw)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
    return network.eval()
