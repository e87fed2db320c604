"""Training steps as they are usually written: float32, NCHW, everything recomputed where it is needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from benchmarks.reference.pgd import pgd


def step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step of empirical risk minimisation; the loss."""
    network.train()
    optimizer.zero_grad()
    loss = functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def adversarial_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    eps: float,
    size: float,
    steps: int,
) -> float:
    """One step of adversarial training (Madry et al. 2018), the attack in evaluation mode; the loss."""
    return step(network, optimizer, pgd(network, images, labels, eps, size, steps).detach(), labels)


class BezierCurve(nn.Module):
    """A quadratic Bezier curve whose middle point is learned; theta(t) is a sum of tensors, parameter by parameter."""

    def __init__(self, network: nn.Module, start: dict[str, Tensor], end: dict[str, Tensor]) -> None:
        super().__init__()
        self.network, self.start, self.end = [network], start, end  # a list: its parameters are not learned
        self.middle = nn.ParameterDict(
            {name.replace(".", "/"): ((start[name] + end[name]) / 2).clone() for name in start}
        )

    def forward(self, images: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Logits (B, C) at t, and the squared length of theta(t)."""
        theta = {
            name: (1 - t) ** 2 * self.start[name]
            + 2 * t * (1 - t) * self.middle[name.replace(".", "/")]
            + t**2 * self.end[name]
            for name in self.start
        }
        logits: Tensor = functional_call(self.network[0], theta, (images,))
        return logits, torch.stack([(tensor**2).sum() for tensor in theta.values()]).sum()


def curve_step(
    curve: BezierCurve, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, t: float, decay: float
) -> float:
    """One step on the curve at t, with L2 on theta(t) (Garipov et al. 2018); the loss."""
    curve.network[0].train()
    optimizer.zero_grad()
    logits, length = curve(images, t)
    loss = functional.cross_entropy(logits, labels)
    (loss + decay / 2 * length).backward()
    optimizer.step()
    return float(loss.detach())
