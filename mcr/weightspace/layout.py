"""Named tensors <-> one flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from mcr.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat vector theta (P,).

    Convolution weights of a channels_last network are stored in that order, so that their views are channels_last.

    Attributes:
        names: Parameter names in the module's order; of tied parameters the first name only.
        shapes: Their shapes.
        channels_last: Whether 4-D parameters are stored in channels_last order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    channels_last: bool

    @classmethod
    def of(cls, network: nn.Module, memory_format: str) -> Layout:
        """The layout of a network's parameters. Raises InputError where their types differ."""
        named = dict(network.named_parameters())
        types = {parameter.dtype for parameter in named.values()}
        if len(types) > 1:
            raise InputError(
                f"the network mixes parameter types ({', '.join(sorted(map(str, types)))}): cast it to one"
            )
        shapes = tuple(tuple(parameter.shape) for parameter in named.values())
        return cls(tuple(named), shapes, memory_format == "channels_last")

    @property
    def size(self) -> int:
        """P."""
        return sum(map(prod, self.shapes))

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (P,) by parameter name, in the parameters' shapes."""
        found, offset = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            piece = theta[offset : offset + prod(shape)]
            if self.channels_last and len(shape) == 4:
                out, channels, height, width = shape
                found[name] = piece.view(out, height, width, channels).permute(0, 3, 1, 2)
            else:
                found[name] = piece.view(shape)
            offset += prod(shape)
        return found

    def pack(self, state: Mapping[str, Tensor]) -> Tensor:
        """theta (P,) from named tensors; other names (buffers) are left out.

        Raises:
            InputError: Naming the first parameter that is missing or has another shape.
        """
        first = next((state[name] for name in self.names if name in state), torch.empty(0))
        theta = torch.empty(self.size, dtype=first.dtype, device=first.device)
        for name, view in self.views(theta).items():
            if name not in state:
                raise InputError(f"the weights have no {name}; the networks on a path must have the same parameters")
            if state[name].shape != view.shape:
                shapes = " and ".join(str(tuple(shape)) for shape in (state[name].shape, view.shape))
                raise InputError(f"{name} differs in shape: {shapes}; the networks on a path must have the same shapes")
            view.copy_(state[name])
        return theta
