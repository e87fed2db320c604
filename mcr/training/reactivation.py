"""Does a backdoor come back?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mcr.probes.risk import risk
from mcr.types import Batch


def reactivation(
    network: nn.Module, triggered: Batch, watched: Iterable[Batch], steps: Sequence[int], rate: float
) -> dict[int, float]:
    """Attack success while a network is tuned on a few triggered images with the attacker's labels.

    A repair may only have hidden a backdoor. Then it returns within fewer steps than it enters a network that never
    had one (after Min et al. 2024, arXiv:2410.09838). Plain gradient descent on all the images at once, in
    evaluation mode, so that BatchNorm's statistics stay those of the repair.

    Args:
        network: Tuned in place.
        triggered: Images with the trigger, in [0, 1] (B, D, H, W), and the attacker's labels (B,).
        watched: Other triggered images with the attacker's labels.
        steps: After how many steps to look, increasing.
        rate: Learning rate.

    Returns:
        Number of steps to attack success, the untuned network (0) among them.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    network.eval()
    images, labels = triggered
    found = {0: float(risk(network, watched)[1].double().mean())}
    for step in range(1, max(steps) + 1):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
        if step in steps:
            found[step] = float(risk(network, watched)[1].double().mean())
    return found
