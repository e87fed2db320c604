"""Whether a network is piecewise linear in its input, seen from what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcr.errors import InputError

# Linear in each input taken alone, or piecewise linear in one: names of autograd's nodes without "Backward".
_PIECEWISE = {
    *("Abs", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "Add", "Alias", "Amax", "Amin", "AsStrided", "AvgPool2D"),
    *("AvgPool3D", "Cat", "Clamp", "ClampMax", "ClampMin", "Clone", "ConstantPadNd", "Copy", "Expand", "Flip"),
    *("Hardsigmoid", "Hardtanh", "Im2Col", "Index", "IndexSelect", "LeakyRelu", "Max", "Maximum", "MaxPool2D"),
    *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "Mean", "Min", "Minimum", "Neg", "Permute", "PixelShuffle"),
    *("ReflectionPad2D", "Relu", "Repeat", "ReplicationPad2D", "Reshape", "ReshapeAlias", "Roll", "Rsub", "Select"),
    *("Slice", "Split", "SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum", "T", "Threshold", "ToCopy", "Transpose"),
    *("Unbind", "UnsafeView", "Unsqueeze", "UpsampleBilinear2D", "UpsampleNearest2D", "View", "Where"),
}
# Linear in each factor: piecewise linear only if a single one depends on the input.
_PRODUCTS = {
    *("Addmm", "Addmv", "Baddbmm", "Bmm", "Convolution", "CudnnBatchNorm", "Div", "Dot", "Linear", "Mm", "Mul", "Mv"),
    *("NativeBatchNorm", "PreluKernel"),
}


def piecewise_linear(network: nn.Module, images: Tensor) -> bool:
    """Whether the logits are a piecewise linear function of the input, read off autograd's graph of a forward pass.

    The graph shows what is computed, also where a module's ``forward`` calls functions that no submodule stands for.
    An operation that is not known to be piecewise linear counts as smooth.

    Args:
        network: In evaluation mode, its parameters frozen.
        images: A few images (B, D, H, W).

    Raises:
        InputError: For BatchNorm in training mode, which ties the images of a batch together.
    """
    refuse_batch_statistics(network)
    with torch.inference_mode(False), torch.enable_grad():
        logits = network(images.detach().clone().requires_grad_(True))
    if logits.grad_fn is None:
        raise InputError("the network's logits do not depend on the image, so its loss has no curvature there")
    for node in nodes(logits.grad_fn):
        inputs = [parent for parent, _ in node.next_functions if parent is not None]
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name in _PRODUCTS:
            if getattr(node, "_saved_training", False):  # statistics of the image itself, as in InstanceNorm
                return False
            if len(inputs) > 1 or (name == "Div" and node.next_functions[1][0] is not None):
                return False
        elif name not in _PIECEWISE and name != "torch::autograd::AccumulateGrad":
            return False
    return True


def nodes(end: Any) -> Iterator[Any]:
    """All nodes of autograd's graph behind one of them; none behind None."""
    waiting, seen = [end], {None}
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]


def refuse_batch_statistics(network: nn.Module) -> None:
    """Raises InputError for BatchNorm that would normalise with the batch's own statistics."""
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise InputError(
                f"{name} is BatchNorm that uses the batch's own statistics: an image's curvature is defined in "
                "evaluation mode only; evaluation.hessian_images=0 leaves it out"
            )
