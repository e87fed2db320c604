"""Which hidden units of a network must move together: one pass that carries names of units beside the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mcr.errors import InputError
from mcr.weightspace.units import FIXED, Units, spread, varying

# Modules, functions and methods share these words: their names in lower case, without underscores.
WORDS = {
    "elementwise": "identity relu relu6 leakyrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid "
    "logsigmoid tanh softplus softsign tanhshrink dropout dropout1d dropout2d dropout3d alphadropout "
    "featurealphadropout stochasticdepth add iadd sub isub mul imul div truediv itruediv neg pow square sqrt rsqrt "
    "abs exp log clamp maximum minimum to float double half bfloat16 contiguous clone detach",
    "spatial": "maxpool1d maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d lppool1d lppool2d adaptivemaxpool1d "
    "adaptivemaxpool2d adaptivemaxpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d upsample interpolate "
    "zeropad2d constantpad2d reflectionpad2d replicationpad2d circularpad2d",
    "moving": "flatten unflatten reshape view permute transpose movedim swapaxes unsqueeze squeeze expand repeat cat "
    "concat stack chunk split unbind getitem narrow select getattr size dim numel",
    "reducing": "mean sum amax amin std var",
    "layernorm": "layernorm",
    "pad": "pad",
    "attention": "scaleddotproductattention",
}
KINDS = {word: kind for kind, words in WORDS.items() for word in words.split()}


def refusal(reason: str) -> InputError:
    """The error for a network whose units cannot change places."""
    line = reason.splitlines()[0]
    return InputError(f"this network cannot be permuted: {line}; repair with two models or with a fine-tuned copy")


class Symmetry(fx.Interpreter):
    """Finds where in the state dict of a network the entries of each hidden unit lie.

    Beside each value goes an integer tensor of its shape: the unit that the entry moves with. A layer with weights
    opens new units; reshaping acts on the names as on the values; to add two values, or to use one at several pixels
    or tokens, links their units. Ainsworth et al. (2023, "Git Re-Basin") write such specifications by hand.

    Attributes:
        state: The tensors of the network's state dict.
        units: The units and their links.
        axes: For each of these tensors, by its ``id``, the units along its dimensions; along None, of the flattened
            tensor.
        blocks: Units (n,) that change places among themselves only, such as those of one GroupNorm group.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(fx.symbolic_trace(network))
        self.extra_traceback = False  # it would write its own lines into an InputError
        self.state: dict[str, Tensor] = network.state_dict(keep_vars=True)
        self.names = {id(tensor): name for name, tensor in self.state.items()}
        self.units = Units()
        self.axes: dict[int, dict[int | None, Tensor]] = {}
        self.blocks: list[Tensor] = []
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The node's value, whose units are noted: a tensor, a tuple of tensors, or None for sizes and the like."""
        value = super().run_node(n)
        units = self._units(n, value)
        if isinstance(value, Tensor) and n.op != "output" and units.shape != value.shape:
            raise refusal(f"the units behind {n.name} are lost track of")
        self.found[n] = units
        return value

    def _units(self, node: fx.Node, value: Any) -> Any:
        known = [self.found[source] for source in node.all_input_nodes if self.found[source] is not None]
        inputs = [units for units in known if isinstance(units, Tensor)]
        if node.op == "output":
            return self.units.fix(*inputs)
        if node.op == "get_attr" and id(value) in self.names and value.is_floating_point():
            return self._bind(value, None, self.units.new(value.numel())).view(value.shape)
        if node.op == "call_module":
            return self._module(node, self.fetch_attr(str(node.target)), inputs, value)
        if len(inputs) == len(known) and not any(bool(units.any()) for units in inputs):
            return _constant(value)  # pixels, constants, sizes, and whatever is computed from these alone
        return self._operation(node, inputs, value)

    def _module(self, node: fx.Node, module: Any, inputs: list[Tensor], value: Any) -> Any:
        match module:
            case nn.Linear():
                return self._layer(module, inputs[0], -1, value.shape)
            case _ConvNd() if isinstance(module, _ConvTransposeNd) or inputs[0].dim() != module.weight.dim():
                pass
            case _ConvNd() if module.groups == 1:
                return self._layer(module, inputs[0], 1, value.shape)
            case _ConvNd() if module.groups == module.in_channels:  # depthwise: each unit has filters of its own
                units = self.units.row(inputs[0], 1).repeat_interleave(module.out_channels // module.groups)
                return spread(self._affine(module, units), value.shape, 1)
            case _ConvNd():  # a filter sees the channels of its group: these stay, and it changes places in its group
                self.units.fix(self.units.row(inputs[0], 1))
                units = self._affine(module, self.units.new(module.out_channels))
                self.blocks += units.chunk(module.groups)
                return spread(units, value.shape, 1)
            case _NormBase() | nn.GroupNorm() | nn.PReLU():
                units = self._affine(module, self.units.row(inputs[0], 1))
                self.blocks += units.chunk(module.num_groups) if isinstance(module, nn.GroupNorm) else ()
                return spread(units, value.shape, 1)
            case nn.LayerNorm() | nn.RMSNorm():
                units = self.units.shared(inputs[0], len(module.normalized_shape)).flatten()
                for tensor in module.state_dict(keep_vars=True).values():
                    self._bind(tensor, None, units)
                return inputs[0]
            case nn.MultiheadAttention():
                return self._attention(node, module, value)
            case nn.Flatten() | nn.Unflatten():
                return module(inputs[0])
        match KINDS.get(type(module).__name__.lower()):
            case "elementwise":
                return inputs[0]
            case "spatial" if isinstance(value, Tensor):
                return spread(self.units.row(inputs[0], 1), value.shape, 1)
        raise refusal(f"module {node.target} ({type(module).__name__}) is of no known kind")

    def _operation(self, node: fx.Node, inputs: list[Tensor], value: Any) -> Any:
        name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        args: Any
        kwargs: Any
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
        match KINDS.get(name.lower().replace("_", "")):
            case "elementwise":
                return self._elementwise(inputs)
            case "layernorm":
                self.units.shared(inputs[0], len(args[1]))
                return self._elementwise(inputs)
            case "spatial" if isinstance(value, Tensor):
                return spread(self.units.row(inputs[0], 1), value.shape, 1)
            case "pad":
                # Channels of padding (the parameter-free shortcut of He et al. 2016) are alike, so they are units too.
                before, after = [*args[1], 0, 0][2 * inputs[0].dim() - 4 :][:2]
                channels = [self.units.new(before), self.units.row(inputs[0], 1), self.units.new(after)]
                return spread(torch.cat(channels), value.shape, 1)
            case "attention":  # as in _attention, the heads stay as they are
                self.units.fix(*inputs)
                return _constant(value)
            case "reducing":
                dims = kwargs.get("dim", args[1] if len(args) > 1 else range(inputs[0].dim()))
                return self._reducing(inputs[0], [dims] if isinstance(dims, int) else list(dims), value)
            case "moving":
                return self._moving(node, name, args, kwargs, value)
        raise refusal(f"operation {name} is of no known kind")

    def _elementwise(self, inputs: list[Tensor]) -> Tensor:
        units = inputs[0]
        for other in inputs[1:]:
            units = self.units.meet(units, other)
        return units

    def _reducing(self, units: Tensor, dims: list[int], value: Tensor) -> Any:
        if set(varying(units)) & {dim % units.dim() for dim in dims}:  # over channels: the same in any order of them
            last = units.movedim(dims, list(range(-len(dims), 0)))
            self.blocks.append(self.units.shared(last, len(dims)).flatten())
            return _constant(value)
        return units.amin(dims).reshape(value.shape)

    def _moving(self, node: fx.Node, name: str, args: Any, kwargs: Any, value: Any) -> Any:
        """What an operation that moves entries does to the values, it does to the names."""
        units = fx.node.map_arg(node.args[0], self.found.__getitem__)
        if node.op == "call_method":
            # Names repeat in memory where values do not, so that a view of them may need a copy.
            moved = getattr(units, "reshape" if name == "view" else name)(*args[1:], **kwargs)
        else:
            moved = node.target(units, *args[1:], **kwargs)  # type: ignore[operator]
        parts = value if isinstance(value, tuple | list) else [value]
        return moved if all(isinstance(part, Tensor) for part in parts) else None

    def _layer(self, layer: nn.Linear | _ConvNd, units: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
        """The new units of a layer with weights (out, in, ...)."""
        self._bind(layer.weight, 1, self.units.row(units, dim))
        return spread(self._affine(layer, self.units.new(len(layer.weight))), shape, dim)

    def _affine(self, module: nn.Module, units: Tensor) -> Tensor:
        """Bind the tensors of a module that have one entry, or one filter, for each unit (n,)."""
        for tensor in module.state_dict(keep_vars=True).values():
            if tensor.dim() > 0 and len(tensor) == len(units):
                units = self._bind(tensor, 0, units)
        return units

    def _attention(self, node: fx.Node, module: nn.MultiheadAttention, value: Any) -> Any:
        """Only the features outside change places; inside, the heads stay as they are."""
        roles = ("query", "key", "value")
        given: dict[str, Any] = dict(zip(roles, node.args, strict=False)) | node.kwargs
        split = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        joint: Any = module.in_proj_weight
        for role, weight in zip(roles, split if joint is None else (joint,) * 3, strict=True):
            self._bind(weight, 1, self.units.row(self.found[given[role]], -1))
        masks = set(node.all_input_nodes) - {given[role] for role in roles}
        self.units.fix(*(self.found[mask] for mask in masks))
        units = self._affine(module.out_proj, self.units.new(module.embed_dim))
        return spread(units, value[0].shape, -1), _constant(value[1])

    def _bind(self, tensor: Tensor, dim: int | None, units: Tensor) -> Tensor:
        """Note the units along a dimension of a tensor of the state dict; a tensor that is used twice links them."""
        if id(tensor) not in self.names:
            raise refusal("it computes the weight of a layer from other tensors")
        known = self.axes.setdefault(id(tensor), {})
        if any((other is None) != (dim is None) for other in known):
            raise refusal(f"{self.names[id(tensor)]} is the weight of a layer and used beside it")
        self.units.link(known.setdefault(dim, units), units)
        return known[dim]


def _constant(value: Any) -> Any:
    """The units of what does not move: a tensor, a tuple of these, or None for anything else."""
    if isinstance(value, tuple | list):
        return tuple(map(_constant, value))
    return torch.tensor(FIXED).expand(value.shape) if isinstance(value, Tensor) else None
