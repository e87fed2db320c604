"""What an injection changed and what the change does; the choice of tensors, and predictions under changed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mcr.errors import InputError

CHUNK = 512  # images that go through the network at once
MOST_NAMES = 20  # a longer list helps nobody in an error line


@dataclass(frozen=True)
class Injected:
    """The changed weights, and their effect as measured on the whole network.

    Attributes:
        tensors: New values of the changed parameters, by name.
        attacked: Indices of the attacked images among those given, int64 (S,); empty for noise, which aims at none.
        targets: The label that each attacked image is to get, int64 (S,).
        kept: Indices of the images whose predictions were to stay, int64 (T,); empty for noise.
        hit: Attacked images that are now classified as their target.
        kept_same: Kept images whose prediction stayed.
        weights_changed: Weights whose value is another.
        l2: Euclidean length of the change, over all tensors.
    """

    tensors: dict[str, Tensor]
    attacked: Tensor
    targets: Tensor
    kept: Tensor
    hit: int
    kept_same: int
    weights_changed: int
    l2: float

    @classmethod
    def measured(
        cls,
        network: nn.Module,
        images: Tensor,
        tensors: dict[str, Tensor],
        attacked: Tensor,
        targets: Tensor,
        kept: Tensor,
    ) -> Injected:
        """Counts what changed: the network with and without the tensors, on those of the images (N, D, H, W) named."""
        before = {name: network.get_parameter(name).detach() for name in tensors}
        changes = [tensor.double() - before[name].double() for name, tensor in tensors.items()]
        old = new = torch.empty(0, dtype=torch.int64)
        # Noise names no image, and not every network takes an empty batch.
        if len(attacked) or len(kept):
            seen = images[torch.cat([attacked, kept]).to(images.device)]
            old, new = (logits(network, seen, values).argmax(1) for values in ({}, tensors))
        return cls(
            tensors=tensors,
            attacked=attacked,
            targets=targets,
            kept=kept,
            hit=int((new[: len(attacked)] == targets).sum()),
            kept_same=int((new == old)[len(attacked) :].sum()),
            weights_changed=sum(int(change.count_nonzero()) for change in changes),
            l2=sum(float(change.square().sum()) for change in changes) ** 0.5,
        )

    def report(self) -> dict[str, object]:
        """The same as plain Python values for a JSON file; of the tensors their names only."""
        return {
            "tensors": list(self.tensors),
            "attacked": self.attacked.tolist(),
            "targets": self.targets.tolist(),
            "kept": self.kept.tolist(),
            "hit": self.hit,
            "kept_same": self.kept_same,
            "weights_changed": self.weights_changed,
            "l2": self.l2,
        }


class Injection(Protocol):
    """Tampering with a trained network."""

    def inject(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Injected:
        """The changed weights, found on images (N, D, H, W) in [0, 1] and labels (N,); the network stays as it is."""


def chosen(network: nn.Module, tensor: str) -> str:
    """The name of one floating parameter: ``tensor`` itself, or for "last" the last with at least two dimensions.

    Raises:
        InputError: Where there is none, naming the nearest.
    """
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.is_floating_point()}
    if tensor == "last":
        matrices = [name for name, parameter in named.items() if parameter.dim() >= 2]
        if not matrices:
            raise InputError("tensor=last: the network has no parameter of two dimensions; name one of its parameters")
        return matrices[-1]
    if tensor not in named:
        close = get_close_matches(tensor, list(named), n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"valid: last, {', '.join(list(named)[-MOST_NAMES:])}"
        )
        raise InputError(f"tensor={tensor}: the network has no such parameter; {hint}")
    return tensor


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode leaves BatchNorm's statistics untouched and dropout off; each submodule's mode comes back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def logits(network: nn.Module, images: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Logits (N, C) on the CPU for images (N, D, H, W), with some parameters replaced; the network stays as it is."""
    device = next(network.parameters()).device
    with evaluating(network):
        found = [functional_call(network, dict(tensors), (chunk.to(device),)).cpu() for chunk in images.split(CHUNK)]
    return torch.cat(found)
