"""What the functions of torch do to the names of units: where these lie along, what they link, what they keep."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from mcr.weightspace.units import FIXED, Units, spread, varying


class Functions:
    """The units of each value of one forward pass; a method for each kind of function (see ``symmetry.WORDS``).

    Its first arguments are the value of the function (and, where it is applied to the names as well, the function),
    the others are those of the call; it returns the units of the value, or None for a use that is not known.

    Attributes:
        state: The tensors of the network's state dict.
        units: The units and their links.
        axes: For each of these tensors, by its ``id``, the units along its dimensions; along None, of the flattened
            tensor.
        blocks: Units (n,) that change places among themselves only, such as those of one GroupNorm group.
        parts: The same of slices: only where what is done to a part of the units is not done to the others.
    """

    def __init__(self, network: nn.Module) -> None:
        self.state: dict[str, Tensor] = network.state_dict(keep_vars=True)
        self.own_ids = {id(tensor) for tensor in self.state.values()}
        self.units = Units()
        self.axes: dict[int, dict[int | None, Tensor]] = {}
        self.blocks: list[Tensor] = []
        self.parts: list[Tensor] = []
        self.found: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()  # of what is computed with either

    def of(self, tensor: Tensor) -> Tensor:
        """The units of a value; a weight that is used as one has a unit for every entry."""
        if tensor in self.found:
            return self.found[tensor]
        if self.own(tensor) and tensor.is_floating_point():
            return self._bind(tensor, None, self.units.new(tensor.numel())).view(tensor.shape)
        still: Tensor = fixed(tensor)
        return still

    def hold(self, tensor: Tensor) -> None:
        if self.own(tensor) and tensor.is_floating_point():
            self._bind(tensor, None, fixed(tensor.flatten()))
        else:
            self.units.fix(self.of(tensor))

    def own(self, tensor: Any) -> bool:
        return id(tensor) in self.own_ids

    def elementwise(self, func: Any, value: Tensor, /, *args: Any, **kwargs: Any) -> Tensor:
        first, *others = [self.of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for other in others:
            first = self.units.meet(first, other)
        return first

    def spatial(self, value: Tensor, /, input: Tensor, *_: Any, **__: Any) -> Tensor:
        return spread(self.units.row(self.of(input), 1), value.shape, 1)

    def moving(self, func: Any, value: Any, /, first: Any, *args: Any, **kwargs: Any) -> Any:
        """What a function that moves entries does to the values, it does to the names."""
        units = tree_map(lambda leaf: self.of(leaf) if isinstance(leaf, Tensor) else leaf, first)
        # Names repeat in memory where values do not, so that a view of them may need a copy.
        moved = (Tensor.reshape if func is Tensor.view else func)(units, *args, **kwargs)
        if isinstance(units, Tensor):
            self.parts += [_thin(part) for part in tree_leaves(moved) if part.numel() < units.numel()]
        return moved

    def reducing(self, value: Any, /, input: Tensor, dim: Any = None, *_: Any, **__: Any) -> Any:
        units, dims = self.of(input), _dims(input, dim)
        if set(varying(units)) & set(dims):  # over channels: the same in any order of them
            self._close(units, dims)
            return fixed(value)
        return units.amin(dims).reshape(value.shape)

    def normalised(self, value: Tensor, /, input: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
        """Over channels each one's share moves with it, and all of them are needed."""
        units, dims = self.of(input), _dims(input, dim)
        if set(varying(units)) & set(dims):
            self._close(units, dims)
        return units

    def normalize(self, value: Tensor, /, input: Tensor, p: float = 2.0, dim: int = 1, *_: Any, **__: Any) -> Tensor:
        return self.normalised(value, input, dim)

    def _close(self, units: Tensor, dims: list[int]) -> None:
        """The units along some dimensions are reduced together: they change places among themselves only."""
        last = units.movedim(dims, list(range(-len(dims), 0)))
        self.blocks.append(self.units.shared(last, len(dims)).flatten())

    def linear(self, value: Tensor, /, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        mixed = self._mixed(value, input, weight, bias)
        return self._layer(value, input, -1, weight, bias) if mixed is None else mixed

    def matmul(self, value: Tensor, /, input: Tensor, other: Tensor) -> Tensor | None:
        """With a weight on one side: a matrix, or a stack of them through which units go the same way."""
        weight, given, out, summed = (input, other, -2, -1) if self.own(input) else (other, input, -1, -2)
        if not self.own(weight) or weight.dim() not in (2, 3) or self.own(given):
            return None
        mixed = self._mixed(value, given, weight) if weight is other and weight.dim() == 2 else None
        if mixed is None:
            self._bind(weight, weight.dim() + summed, self.units.row(self.of(given), out))
            mixed = spread(self._bind(weight, weight.dim() + out, self.units.new(weight.shape[out])), value.shape, out)
        return mixed

    def _mixed(self, value: Tensor, input: Tensor, *weights: Tensor | None) -> Tensor | None:
        """Where a layer acts along pixels or tokens, each unit is mixed with itself; None where it acts along units."""
        units = self.of(input)
        along = varying(units)
        if not along or input.dim() - 1 in along:
            return None
        for weight in [one for one in weights if one is not None]:
            self.hold(weight)
        return units.narrow(-1, 0, 1).expand(value.shape)

    def convolution(
        self,
        value: Tensor,
        /,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if input.dim() != weight.dim() or not self.own(weight):
            return None
        if groups == 1:
            return self._layer(value, input, 1, weight, bias)
        units = self.units.row(self.of(input), 1)
        if groups == input.shape[1]:  # depthwise: each unit has filters of its own
            units = units.repeat_interleave(len(weight) // groups)
            return spread(self._affine(units, weight, bias), value.shape, 1)
        # A filter sees the channels of its group: these stay, and it changes places in its group.
        self.units.fix(units)
        units = self._affine(self.units.new(len(weight)), weight, bias)
        self.blocks += units.chunk(groups)
        return spread(units, value.shape, 1)

    def _layer(self, value: Tensor, input: Tensor, dim: int, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """The new units of a layer with weights (out, in, ...)."""
        if not self.own(weight):
            return None
        self._bind(weight, 1, self.units.row(self.of(input), dim))
        return spread(self._affine(self.units.new(len(weight)), weight, bias), value.shape, dim)

    def batchnorm(self, value: Tensor, /, input: Tensor, *tensors: Any, **named: Any) -> Tensor:
        """With running statistics, weight and bias, as many as there are."""
        units = self._affine(self.units.row(self.of(input), 1), *tensors[:4], *named.values())
        return spread(units, value.shape, 1)

    def groupnorm(self, value: Tensor, /, input: Tensor, num_groups: int, *tensors: Any, **named: Any) -> Tensor:
        units = self._affine(self.units.row(self.of(input), 1), *tensors[:2], *named.values())
        self.blocks += units.chunk(num_groups)
        return spread(units, value.shape, 1)

    def layernorm(self, value: Tensor, /, input: Tensor, normalized_shape: Any, *tensors: Any, **named: Any) -> Tensor:
        found = self.of(input)
        units = self.units.shared(found, len(normalized_shape))
        self.blocks.append(units.flatten())
        for tensor in (*tensors[:2], *named.values()):
            if isinstance(tensor, Tensor):
                self.units.link(units, self.of(tensor))
        return found

    def prelu(self, value: Tensor, /, input: Tensor, weight: Tensor) -> Tensor:
        if weight.numel() == 1:
            return self.of(input)
        return spread(self._affine(self.units.row(self.of(input), 1), weight), value.shape, 1)

    def pad(
        self, value: Tensor, /, input: Tensor, pad: Sequence[int], mode: str = "constant", *_: Any, **__: Any
    ) -> Tensor | None:
        """Channels of padding (the parameter-free shortcut of He et al. 2016) are alike, so they are units too."""
        units = self.of(input)
        channels = varying(units)
        for number in range(len(pad) // 2):
            dim, sizes = input.dim() - 1 - number, pad[2 * number : 2 * number + 2]
            if dim in channels and any(sizes) and mode != "constant":
                return None
            before, after = (self._border(units, dim, size, dim in channels) for size in sizes)
            units = torch.cat([before, units, after], dim)
        return units

    def _border(self, units: Tensor, dim: int, size: int, channels: bool) -> Tensor:
        shape = [size if at == dim else length for at, length in enumerate(units.shape)]
        return spread(self.units.new(size), shape, dim) if channels else units.narrow(dim, 0, 1).expand(shape)

    def attention(
        self, value: Any, /, query: Tensor, key: Tensor, values: Tensor, size: int, heads: int, *args: Any, **named: Any
    ) -> Any:
        """Only the features outside change places; inside, the heads stay as they are."""
        joint, _, before, after, _, _, out, bias = args[:8]
        split = [named.get(f"{role}_proj_weight") for role in "qkv"]
        for given, weight in zip((query, key, values), split if joint is None else [joint] * 3, strict=True):
            self._bind(weight, 1, self.units.row(self.of(given), -1))
        masks = (before, after, named.get("attn_mask"), named.get("key_padding_mask"))
        self.units.fix(*(self.of(mask) for mask in masks if isinstance(mask, Tensor)))
        units = self._affine(self.units.new(size), out, bias)
        return spread(units, value[0].shape, -1), *map(fixed, [one for one in value[1:] if one is not None])

    def assignment(self, value: None, /, target: Tensor, index: Any, source: Any) -> tuple[()]:
        """Into a part of a tensor: its units and those of what is put there move together."""
        self.units.link(self.of(target)[index], self.of(torch.as_tensor(source)))
        return ()

    def _affine(self, units: Tensor, *tensors: Any) -> Tensor:
        """Bind tensors that have one entry, or one filter, for each unit (n,); others are passed over."""
        for tensor in tensors:
            if self.own(tensor):
                units = self._bind(tensor, 0, units)
            elif isinstance(tensor, Tensor):
                self.units.link(units, self.of(tensor))
        return units

    def _bind(self, tensor: Tensor, dim: int | None, units: Tensor) -> Tensor:
        """Note the units along a dimension of a tensor of the state dict; a tensor that is used twice links them."""
        known = self.axes.setdefault(id(tensor), {})
        place = 0 if tensor.dim() == 1 else dim
        self.units.link(known.setdefault(place, units), units)
        if len({other is None for other in known}) > 1:  # the weight of a layer, and used beside it
            self.units.fix(*known.values())
        return known[place]


def fixed(value: Any) -> Any:
    """The units of what does not move: a tensor, or several."""
    return tree_map(lambda leaf: torch.tensor(FIXED).expand(leaf.shape) if isinstance(leaf, Tensor) else leaf, value)


def _thin(units: Tensor) -> Tensor:
    """The units (n,) along the dimensions along which they differ."""
    for dim in set(range(units.dim())) - set(varying(units)):
        units = units.narrow(dim, 0, 1)
    return units.flatten()


def _dims(input: Tensor, dim: Any) -> list[int]:
    """Dimensions of a tensor as numbers from 0."""
    dims = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    return [one % input.dim() for one in dims]
