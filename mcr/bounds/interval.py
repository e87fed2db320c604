"""Interval arithmetic through a network that torch.fx can trace."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from mcr.bounds.box import Box, around
from mcr.errors import InputError

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What is monotone in each entry, or moves entries: the bounds of its value are its values at the bounds.
MONOTONE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.ELU, nn.Identity, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.ZeroPad2d),
)
FUNCTIONS = {
    *(torch.relu, functional.relu, functional.relu6, torch.sigmoid, torch.tanh, torch.flatten, functional.max_pool2d),
    *(functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d, functional.pad),
    *(torch.mean, operator.getitem),
}
METHODS = {"relu", "sigmoid", "tanh", "flatten", "view", "reshape", "mean", "contiguous"}
SUMS = {operator.add, operator.iadd, torch.add}
DIFFERENCES = {operator.sub, operator.isub, torch.sub}
SLOPES = ("negative_slope", "alpha")  # of those, where they fall if it is negative
# The graphs of networks that are known, in evaluation and in training mode; they name layers and hold no weights.
TRACED: WeakKeyDictionary[nn.Module, dict[bool, fx.Graph]] = WeakKeyDictionary()


def margins(network: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """A lower bound on the logit of the label less each other one, over all images of the box (B, C); 0 at the label.

    After Gowal et al. (2018, interval bound propagation): a linear layer maps centre and radius, monotone ones both
    bounds. Where the last layer is linear the differences are bounded, not the two logits, which is tighter. A module
    with a method ``enclose``, from a Box to a Box, knows its own bounds.

    Args:
        network: From images in [0, 1] to logits; differentiable.
        images: (B, D, H, W).
        labels: (B,).
        eps: Radius of the box in the maximum norm, in [0, 1] pixel units.

    Raises:
        InputError: For a network that cannot be traced, or one with a layer for which no bound is known.
    """
    graphs = TRACED.setdefault(network, {})
    if network.training not in graphs:
        graphs[network.training] = traced(network)
    found = Intervals(network, graphs[network.training], labels).run(around(images, eps))
    if isinstance(found, Box):
        return _differences(found, labels)
    margin: Tensor = found
    return margin


def traced(network: nn.Module) -> fx.Graph:
    """The network's graph, a module with bounds of its own being one node of it."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return hasattr(m, "enclose") or super().is_leaf_module(m, module_qualified_name)

    try:
        return Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"bounds: torch.fx cannot trace this network, {line}") from error


class Intervals(fx.Interpreter):
    """Runs the graph of a network on boxes.

    Attributes:
        labels: Of the images (B,).
    """

    def __init__(self, network: nn.Module, graph: fx.Graph, labels: Tensor) -> None:
        super().__init__(network, garbage_collect_values=False, graph=graph)
        self.labels = labels
        (end,) = (node for node in graph.nodes if node.op == "output")
        self.last = end.args[0]

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node; of the last layer the margins, where it is linear."""
        if n is self.last and n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            if isinstance(layer, nn.Linear):
                return _last(layer, self.env[n.args[0]], self.labels)
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer."""
        layer = self.fetch_attr(target)
        if not isinstance(args[0], Box):
            return super().call_module(target, args, kwargs)
        if hasattr(layer, "enclose"):
            return layer.enclose(args[0])
        if isinstance(layer, AFFINE):
            return _affine(layer, args[0])
        if isinstance(layer, NORMS) and not layer.training:
            return _normalised(layer, args[0])
        if isinstance(layer, (nn.Dropout, nn.Dropout2d)) and not layer.training:
            return args[0]
        if isinstance(layer, MONOTONE) and all(getattr(layer, name, 0) >= 0 for name in SLOPES):
            return Box(layer(args[0].lower), layer(args[0].upper))
        raise _unknown(f"{type(layer).__name__} {target}" + (" in training mode" if layer.training else ""))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function of values."""
        return self._called(target, getattr(target, "__name__", str(target)), target in FUNCTIONS, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A method of a value."""

        def method(value: Any, *others: Any, **named: Any) -> Any:
            return getattr(value, target)(*others, **named)

        if target == "size" and isinstance(args[0], Box):
            return args[0].lower.size(*args[1:])
        return self._called(method, target, target in METHODS, args, kwargs)

    def _called(
        self, function: Callable[..., Any], name: str, monotone: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        boxes = [isinstance(value, Box) for value in args]
        if not any(boxes):
            return function(*args, **kwargs)
        if function is getattr and args[1] == "shape":
            return args[0].lower.shape
        if monotone and boxes[0] and sum(boxes) == 1:
            first, *others = args
            return Box(function(first.lower, *others, **kwargs), function(first.upper, *others, **kwargs))
        if len(args) == 2 and not kwargs:
            one, other = (value if isinstance(value, Box) else Box(value, value) for value in args)
            if function in SUMS:
                return Box(one.lower + other.lower, one.upper + other.upper)
            if function in DIFFERENCES:
                return Box(one.lower - other.upper, one.upper - other.lower)
            if function in (operator.mul, operator.imul, torch.mul) and sum(boxes) == 1:
                return args[0].scaled(args[1]) if boxes[0] else args[1].scaled(args[0])
            if function in (operator.truediv, operator.itruediv, torch.div) and boxes == [True, False]:
                return args[0].scaled(1 / args[1])
        raise _unknown(name)


def _unknown(what: str) -> InputError:
    return InputError(f"bounds: no bound is known for {what}; certified_risk and certified need another network")


def _affine(layer: Any, box: Box) -> Box:
    """Centre through the layer, radius through its weights' sizes."""
    centre = layer(box.centre)
    if isinstance(layer, nn.Linear):
        radius = functional.linear(box.radius, layer.weight.abs())
    else:
        radius = layer._conv_forward(box.radius, layer.weight.abs(), None)
    return Box(centre - radius, centre + radius)


def _normalised(layer: Any, box: Box) -> Box:
    """BatchNorm with its running statistics is a scale and a shift of each channel."""
    centre = layer(box.centre)
    scale = (layer.running_var + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight)
    radius = box.radius * scale.abs().view(1, -1, *[1] * (centre.dim() - 2))
    return Box(centre - radius, centre + radius)


def _last(layer: nn.Linear, box: Box, labels: Tensor) -> Tensor:
    """Bounds on the differences of the last layer's outputs (B, C)."""
    rows = layer.weight[labels][:, None] - layer.weight  # (B, C, H)
    margin = (rows @ box.centre[:, :, None] - rows.abs() @ box.radius[:, :, None]).squeeze(2)
    return margin if layer.bias is None else margin + layer.bias[labels][:, None] - layer.bias


def _differences(logits: Box, labels: Tensor) -> Tensor:
    """Bounds on the differences of bounded logits (B, C)."""
    own = labels[:, None]
    return (logits.lower.gather(1, own) - logits.upper).scatter(1, own, 0.0)
