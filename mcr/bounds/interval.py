"""Interval arithmetic through a network that torch.fx can trace."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
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
SUMS = {operator.add, torch.add}
DIFFERENCES = {operator.sub, torch.sub}
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
SAME = 1e-3  # of the norm of the logits: more than rounding, which two ways of one computation differ by
FACTS = {"shape", "dtype", "device"}  # of a value, the same for all values of a box
ONE = "bounds: the network must answer with one tensor of logits that depends on the image"
SLOPES = ("negative_slope", "alpha")  # attributes of monotone layers, which fall where it is negative
Shape = tuple[tuple[str, type[nn.Module], bool], ...]
# The graphs of networks that are known, by their layers and the modes of these; they name layers and hold no weights.
TRACED: WeakKeyDictionary[nn.Module, dict[Shape, fx.Graph]] = WeakKeyDictionary()


def margins(network: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """A lower bound on the logit of the label less each other one, over all images of the box (B, C); 0 at the label.

    After Gowal et al. (2018, interval bound propagation): a linear layer maps centre and radius, monotone ones both
    bounds. Where the last layer is linear the differences are bounded, not the two logits, which is tighter. A module
    with a method ``enclose``, from a Box to a Box, knows its own bounds.

    Args:
        network: From images in [0, 1] to logits; differentiable.
        images: (B, D, H, W).
        labels: (B,).
        eps: Radius of the box in the maximum norm, in [0, 1] pixel units; at least 0.

    Raises:
        InputError: For a network that cannot be traced, or one with a layer for which no bound is known.
    """
    graphs = TRACED.setdefault(network, {})
    shape = tuple((name, type(layer), layer.training) for name, layer in network.named_modules())
    if shape not in graphs:
        graph = traced(network)
        _refuse_another(network, graph, images)
        graphs[shape] = graph
    found = Intervals(network, graphs[shape], labels).run(around(images, eps))
    if isinstance(found, Box):
        return _margins_of_logits(found, labels)
    if not isinstance(found, Margins):
        raise InputError(ONE)
    return found.least


@dataclass(frozen=True)
class Margins:
    """What stands for the logits where the last layer is linear: the bounds themselves.

    Attributes:
        least: (B, C).
    """

    least: Tensor


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


@torch.no_grad()
def _refuse_another(network: nn.Module, graph: fx.Graph, images: Tensor) -> None:
    """Raises InputError where the graph is not the network: torch.fx takes h += x for h = h + x.

    Layers that draw or move statistics in training mode are left alone, no bound is known for them.
    """
    if any(layer.training and isinstance(layer, (*NORMS, *DROPOUTS)) for layer in network.modules()):
        return
    meant, found = network(images), fx.GraphModule(network, graph)(images)
    if not (isinstance(meant, Tensor) and isinstance(found, Tensor) and meant.shape == found.shape):
        raise InputError(ONE)
    if not (meant - found).norm() <= SAME * meant.norm():
        raise InputError(
            "bounds: torch.fx traces another network than this, its logits differ; the usual reason is a value that is "
            "changed in place and read again under another name: h = h + x in place of h += x"
        )


class Intervals(fx.Interpreter):
    """Runs the graph of a network on boxes.

    Attributes:
        labels: Of the images (B,).
    """

    def __init__(self, network: nn.Module, graph: fx.Graph, labels: Tensor) -> None:
        super().__init__(network, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False  # an error stays one line
        self.labels = labels
        (end,) = (node for node in graph.nodes if node.op == "output")
        self.last = end.args[0]

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node; of the last layer the margins, where it is linear."""
        if n is self.last and n.op == "call_module":
            layer, box = self.fetch_attr(str(n.target)), self.env[n.all_input_nodes[0]]
            if isinstance(layer, nn.Linear) and isinstance(box, Box):
                return Margins(_margins_of_linear(layer, box, self.labels))
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer."""
        layer, given = self.fetch_attr(target), (*args, *kwargs.values())
        boxes = _boxes(given)
        if not boxes:
            return super().call_module(target, args, kwargs)
        box, name = given[0], f"{type(layer).__name__} {target}"
        if boxes > 1 or not isinstance(box, Box):
            raise _unknown(name)
        if hasattr(layer, "enclose"):
            return layer.enclose(box)
        if isinstance(layer, AFFINE):
            return _affine(layer, box)
        if isinstance(layer, NORMS):
            if layer.training or layer.running_var is None:
                raise _unknown(f"{name} in training mode" if layer.training else f"{name} without running statistics")
            return _normalised(layer, box)
        if isinstance(layer, DROPOUTS):
            if layer.training:
                raise _unknown(f"{name} in training mode")
            return box
        if isinstance(layer, MONOTONE) and all(getattr(layer, slope, 0) >= 0 for slope in SLOPES):
            return Box(layer(box.lower), layer(box.upper))
        raise _unknown(name)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function of values."""
        return self._called(target, getattr(target, "__name__", str(target)), target in FUNCTIONS, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A method of a value."""

        def method(value: Any, *others: Any, **named: Any) -> Any:
            return getattr(value, target)(*others, **named)

        if target == "size" and isinstance(args[0], Box):
            return args[0].lower.size(*args[1:], **kwargs)
        return self._called(method, target, target in METHODS, args, kwargs)

    def _called(
        self, function: Callable[..., Any], name: str, monotone: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        boxes = [isinstance(value, Box) for value in args]
        count = _boxes((args, kwargs))
        if not count:
            return function(*args, **kwargs)
        if function is getattr:
            if args[1] in FACTS:
                return getattr(args[0].lower, args[1])
            name = f"the attribute {args[1]}"
        if count > sum(boxes):  # in a list, or under a name
            raise _unknown(name)
        if monotone and boxes[0] and sum(boxes) == 1:
            first, *others = args
            return Box(function(first.lower, *others, **kwargs), function(first.upper, *others, **kwargs))
        if len(args) == 2 and not kwargs:
            one, other = (value if isinstance(value, Box) else Box(value, value) for value in args)
            if function in SUMS:
                return Box(one.lower + other.lower, one.upper + other.upper)
            if function in DIFFERENCES:
                return Box(one.lower - other.upper, one.upper - other.lower)
            if function in (operator.mul, torch.mul) and sum(boxes) == 1:
                return args[0].scaled(args[1]) if boxes[0] else args[1].scaled(args[0])
            if function in (operator.truediv, torch.div) and boxes == [True, False]:
                return args[0].scaled(1 / args[1])
        raise _unknown(name)


def _boxes(values: Any) -> int:
    """How many boxes there are among values, and in lists and the like among them."""
    if isinstance(values, Box):
        return 1
    parts = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    return sum(map(_boxes, parts))


def _unknown(what: str) -> InputError:
    return InputError(
        f"bounds: no bound is known for {what}; probe=certified_risk and objective=certified need a network without it"
    )


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


def _margins_of_linear(layer: nn.Linear, box: Box, labels: Tensor) -> Tensor:
    """Bounds on the differences of the last layer's outputs (B, C), from its inputs (B, H)."""
    rows = layer.weight[labels][:, None] - layer.weight  # (B, C, H)
    margin = (rows @ box.centre[:, :, None] - rows.abs() @ box.radius[:, :, None]).squeeze(2)
    return margin if layer.bias is None else margin + layer.bias[labels][:, None] - layer.bias


def _margins_of_logits(logits: Box, labels: Tensor) -> Tensor:
    """Bounds on the differences of bounded logits (B, C)."""
    own = labels[:, None]
    return (logits.lower.gather(1, own) - logits.upper).scatter(1, own, 0.0)
