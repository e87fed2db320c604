"""Products of vectors with the Hessian of the loss in the image, whatever torch can differentiate of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from mcr.attacks.evasion import ordinary
from mcr.numerics.losses import cross_entropy
from mcr.numerics.precision import widest
from mcr.probes.piecewise import nodes

Product = Callable[[Tensor], Tensor]
# A network, images (B, D, H, W) and labels (B,) to the gradients (B, D H W) and their product with vectors like them.
Products = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Product]]
# Of a gradient that is marked as once_differentiable. Its error is raised only where a gradient passes it on the way to
# the image, and it does not: without a look at the graph the curvature behind it would count as zero.
ONCE = "torch::autograd::Error"
KINK = 1e-4  # two one-sided differences that are apart by more than this share of their lengths have a kink between


class _ClampedGates(TorchFunctionMode):
    """The hard sigmoid as max(0, min(1, x / 6 + 1 / 2)): torch has no second derivative of its own kernel.

    The second derivative is zero off the two kinks, as torch takes it for every ReLU.
    """

    KNOWN = (functional.hardsigmoid, torch._C._nn.hardsigmoid, torch._C._nn.hardsigmoid_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self.KNOWN:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        gate = (given / 6 + 0.5).clamp(0, 1)
        in_place = func is torch._C._nn.hardsigmoid_ or kwargs.get("inplace", (*args, False, False)[1])
        return given.copy_(gate) if in_place else gate


def differentiated(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Product]:
    """By differentiating the gradient; see ``Products``.

    Raises:
        RuntimeError: Where torch cannot, here or at the first product.
    """
    # Fused attention has no second derivative.
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaf = ordinary(images.detach()).requires_grad_(True)
        loss = cross_entropy(network(leaf), ordinary(labels)).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    if any(node.name() == ONCE for node in nodes(gradient.grad_fn)):
        raise RuntimeError("a function of the network is differentiable once only")

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a loss that is linear in the input
            return torch.zeros_like(vector)
        (found,) = torch.autograd.grad(
            gradient, leaf, vector.view_as(leaf), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return found.flatten(1)

    return gradient.detach().flatten(1), product


def clamped(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Product]:
    """By differentiating the gradient of a network with hard sigmoids; see ``Products``."""
    with _ClampedGates():
        return differentiated(network, images, labels)


def differences(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Product]:
    """By central differences of the gradient, in float64 where the network can be run in it; see ``Products``.

    The error is about 1e-9 of the length of the logits' gradients (1e-4 in float32). Where a kink of the network lies
    within a step, the difference on the side that does not cross it is taken: the jump of the gradient there, divided
    by the step, would drown all else.
    """
    wide, points = widest(network, images)
    step = torch.finfo(points.dtype).eps ** 0.4
    here = _gradient(wide, points, labels)

    def product(vector: Tensor) -> Tensor:
        move = (step * vector).view_as(points)
        ahead = (_gradient(wide, points + move, labels) - here) / step
        behind = (here - _gradient(wide, points - move, labels)) / step
        lengths = [torch.linalg.vector_norm(side, dim=1, keepdim=True) for side in (ahead, behind)]
        apart = torch.linalg.vector_norm(ahead - behind, dim=1, keepdim=True) > KINK * (lengths[0] + lengths[1])
        shorter = torch.where(lengths[0] <= lengths[1], ahead, behind)
        return torch.where(apart, shorter, (ahead + behind) / 2)

    return here, lambda vector: product(vector.to(points)).to(vector)


def products_of(network: nn.Module, images: Tensor, labels: Tensor) -> Products:
    """The first of these ways that torch can take for a network, tried on one product.

    Args:
        network: In evaluation mode, frozen.
        images: One image (1, D, H, W).
        labels: (1,).
    """
    for way in (differentiated, clamped):
        try:
            gradient, product = way(network, images, labels)
            product(torch.ones_like(gradient))
        except Exception:  # a function of the user's own may refuse in any way
            continue
        return way
    return differences


def _gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = ordinary(images.detach()).requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(network(leaf), ordinary(labels)).sum(), leaf)
    return gradient.flatten(1)
