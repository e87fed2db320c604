"""Variance correction: averaged weights answer too faintly, and networks without BatchNorm cannot estimate that anew.

REPAIR (Jordan et al. 2023, "REPAIR: REnormalizing Permuted Activations for Interpolation Repair"): each unit gets the
mean and the standard deviation before its nonlinearity that the networks which were averaged have there, in proportion.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

ROUNDING = 1e-14  # of the squared mean: a variance below it is what the difference of two like numbers leaves
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Batches = Callable[[], Iterable[Tensor]]
"""Gives images (B, D, H, W) in [0, 1], the same whenever it is called."""


@dataclass(frozen=True)
class Moments:
    """Of what the units of a layer give, over images and pixels or tokens.

    Attributes:
        mean: float64 (m,).
        std: float64 (m,), that of all values, not an estimate from a sample.
    """

    mean: Tensor
    std: Tensor


@torch.no_grad()
def moments(network: nn.Module, batches: Batches) -> dict[str, Moments]:
    """Those of each hidden layer that can be corrected, by its name, in the order in which they are called.

    Left out are layers without a bias, which could not be shifted; those before BatchNorm, which undoes any correction;
    those called twice or with a weight that another one has, too; and the last one, which gives the logits.
    """
    moved = copy.deepcopy(network).eval()
    with _Watched(moved) as watched:
        for images in batches():
            moved(images)
    return {name: watched.sums[name].moments() for name in watched.correctable()}


def blended(ends: Sequence[Mapping[str, Moments]], shares: Sequence[float]) -> dict[str, Moments]:
    """What units between several networks should have: the sum of theirs times the networks' shares.

    >>> one, other = ({"a": Moments(torch.tensor([m]), torch.tensor([s]))} for m, s in ((0.0, 1.0), (4.0, 3.0)))
    >>> blended([one, other], [0.25, 0.75])["a"]
    Moments(mean=tensor([3.]), std=tensor([2.5000]))
    """

    def blend(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([share * tensor for share, tensor in zip(shares, tensors, strict=True)]).sum(0)

    return {
        name: Moments(blend([end[name].mean for end in ends]), blend([end[name].std for end in ends]).clamp_min(0))
        for name in ends[0]
    }


@torch.no_grad()
def corrected(network: nn.Module, targets: Mapping[str, Moments], batches: Batches) -> dict[str, Tensor]:
    """New weights and biases by which the units of each layer have these moments on these images.

    From the input on: a layer is measured once those before it are corrected, so that it takes a pass through the
    images for each layer, up to that one. A unit that always gives the same is shifted only.

    Args:
        network: At a point between others; stays as it is.
        targets: See ``blended``; in the order of the layers.
        batches: The images that the targets were measured on.

    Returns:
        The changed entries of the state dict.
    """
    moved = copy.deepcopy(network).eval()
    named, changed = dict(moved.named_parameters()), dict[str, Tensor]()
    for name, target in targets.items():
        found = _of_layer(moved, moved.get_submodule(name), batches)
        scale = torch.where(found.std > 0, target.std / found.std, torch.ones_like(found.std))
        weight, bias = (named[f"{name}.{part}"] for part in ("weight", "bias"))
        wide = scale.view(-1, *(1,) * (weight.dim() - 1))
        weight.copy_(weight.double() * wide.to(weight.device))
        bias.copy_((bias.double().cpu() - found.mean) * scale + target.mean)
        changed |= {f"{name}.weight": weight.detach(), f"{name}.bias": bias.detach()}
    return changed


class _Reached(Exception):  # noqa: N818
    """What comes after a layer need not be computed."""


def _of_layer(network: nn.Module, layer: nn.Module, batches: Batches) -> Moments:
    sums = _Sums()

    def hook(module: nn.Module, given: Any, output: Tensor) -> None:
        sums.add(module, output)
        raise _Reached

    handle = layer.register_forward_hook(hook)
    try:
        for images in batches():
            try:
                network(images)
            except _Reached:
                continue
    finally:
        handle.remove()
    return sums.moments()


class _Sums:
    """Of the values of each unit (m,) and of their squares, over batches."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.second = torch.zeros((), dtype=torch.float64)

    def add(self, layer: nn.Module, output: Tensor) -> None:
        unbatched = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        values = output.detach().movedim(unbatched, 0).flatten(1).double()
        self.count += values.shape[1]
        self.first = self.first + values.sum(1).cpu()
        self.second = self.second + values.square().sum(1).cpu()

    def moments(self) -> Moments:
        mean = self.first / self.count
        variance = self.second / self.count - mean.square()
        return Moments(mean, variance.where(variance > ROUNDING * mean.square(), torch.zeros_like(mean)).sqrt())


class _Watched(TorchFunctionMode):
    """Passes of a network, with the sums of each layer in the order of their first calls, and what becomes of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.sums: dict[str, _Sums] = {}
        self.calls: Counter[str] = Counter()
        self.given = WeakTensorKeyDictionary()  # by layers
        self.normalised: set[str] = set()
        self.hooks = ExitStack()

    def __enter__(self) -> _Watched:
        for name, layer in self.network.named_modules():
            if isinstance(layer, LAYERS):
                handle = layer.register_forward_hook(partial(self._see, name))
                self.hooks.callback(handle.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.hooks.close()

    def _see(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.sums.setdefault(name, _Sums()).add(layer, output)
        self.calls[name] += 1
        self.given[output] = name

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "batch_norm" and args[0] in self.given:
            self.normalised.add(self.given[args[0]])
        return func(*args, **(kwargs or {}))

    def correctable(self) -> list[str]:
        """The names of the layers that may be corrected."""
        named = dict(self.network.named_parameters(remove_duplicate=False))
        owners = Counter(map(id, named.values()))
        once = min(self.calls.values(), default=0)  # the number of batches
        return [
            name
            for name in list(self.sums)[:-1]
            if name not in self.normalised
            and self.calls[name] == once
            and all(owners[id(named.get(f"{name}.{part}"))] == 1 for part in ("weight", "bias"))
        ]
