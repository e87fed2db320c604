"""What is measured: networks and images of CIFAR-10's size that need no download."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.architectures.normalization import Normalized
from mcr.architectures.preresnet import PreResNet
from mcr.architectures.small_vgg import SmallVgg
from mcr.architectures.vgg import Vgg
from mcr.attacks.pgd import Pgd
from mcr.datasets.digits import Digits
from mcr.numerics.malloc import keep_freed_memory
from mcr.numerics.seeding import generator
from mcr.objectives.fgsm_rs import FgsmRs

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
BATCH = 128
CLASSES = {
    "small_vgg": (SmallVgg, {"width": 32}),
    "preresnet26": (PreResNet, {"depth": 26}),
    "vgg16": (Vgg, {"depth": 16, "norm": "none", "dropout": 0.5}),
}
keep_freed_memory()


def network(name: str, seed: int = 0) -> nn.Module:
    """A network with fresh weights, behind its normalisation."""
    torch.manual_seed(seed)
    make, arguments = CLASSES[name]
    return Normalized(make(**arguments, num_classes=10, in_channels=3), (0.3,) * 3, (0.3,) * 3)


def pixels(count: int) -> tuple[Tensor, Tensor]:
    """Scikit-learn's digits, enlarged to colour images: uint8 (N, 3, 32, 32) and labels (N,), repeated as needed."""
    part = Digits().load().parts["all"]
    large = functional.interpolate(part.images.float(), size=32, mode="bilinear").round().to(torch.uint8)
    chosen = torch.arange(count) % len(large)
    return large[chosen].expand(-1, 3, -1, -1).contiguous(), part.labels[chosen]


def images(count: int = BATCH) -> tuple[Tensor, Tensor]:
    """The same as floats in [0, 1]."""
    found, labels = pixels(count)
    return found.float() / 255, labels


def pgd(**changes: Any) -> Pgd:
    """PGD-10 at 8/255 from a random start."""
    usual: dict[str, Any] = {"eps": EPS, "step_size": STEP, "steps": STEPS, "norm": "linf", "start": "random"}
    return Pgd(**(usual | {"restarts": 1} | changes))


def trained(steps: int = 30, seed: int = 0) -> nn.Module:
    """small_vgg after brief training under one-step attacks, so that losses and gradients are not those of noise."""
    net = network("small_vgg", seed)
    every, labels = images(1797)
    objective, draw = FgsmRs(pgd(), 1.25), generator(seed, "subject")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    order = torch.cat([torch.randperm(len(labels), generator=draw) for _ in range(1 + steps * BATCH // len(labels))])
    for chosen in order.split(BATCH)[:steps]:
        losses, _ = objective(net.train(), every[chosen], labels[chosen], draw)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return net.eval()
