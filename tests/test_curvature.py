"""Curvature in the input against dense Hessians; which networks are piecewise linear; ensembles and input gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from mcr.app.composition import conf_folder
from mcr.architectures.normalization import Normalized
from mcr.architectures.preresnet import PreResNet
from mcr.architectures.small_cnn import SmallCnn
from mcr.architectures.wrn import WideResNet
from mcr.attacks.frozen import frozen
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.probes import input_hessian
from mcr.probes.ensemble import Ensemble
from mcr.probes.hessian_product import clamped, differences, differentiated, products_of
from mcr.probes.input_gradient import cosine, input_gradients
from mcr.probes.input_hessian import Curvature, curvature, exact, lanczos
from mcr.probes.piecewise import piecewise_linear
from mcr.store import build

SIDE = 6
PIXELS = SIDE * SIDE
CLEAR = 0.02  # relative gap above which an eigenvector is compared


class Functional(nn.Module):
    """Its forward calls functions that no submodule stands for."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 4, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.convolution(2 * images - 0.5))
        return self.head(functional.max_pool2d(hidden, 2).flatten(1))


class Calls(nn.Module):
    """A forward pass from a function, in front of a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = PIXELS, classes: int = 3) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.function(images.flatten(1)))


class Curved(nn.Module):
    """Logits (0, sum of weight (x - center)^2): at the center the loss of label 1 has the Hessian -diag(weight)."""

    def __init__(self, weight: Tensor, center: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("center", center)

    def forward(self, images: Tensor) -> Tensor:
        value = ((images - self.center).flatten(1).square() * self.weight).sum(1)
        return torch.stack([torch.zeros_like(value), value], 1)


class Linear(nn.Module):
    """Logits (0, w.x)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(score), score], 1)


def stirred(network: nn.Module, gain: float = 1.5, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with other weights, and BatchNorm far from its initial statistics."""
    draw = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(gain * noise / fan**0.5 if parameter.dim() > 1 else 1 + 0.3 * noise)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=draw))
    return network


def convolutional(classes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), activation(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), activation(), nn.AvgPool2d(2, ceil_mode=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)),
    )


PIECEWISE = {
    "conv, 2 classes": lambda: convolutional(2),
    "conv, 3 classes": lambda: convolutional(3),
    "conv, 10 classes": lambda: convolutional(10),
    "leaky": lambda: convolutional(4, nn.LeakyReLU),
    "residual": lambda: PreResNet(8, 5, 1),
    "wide residual": lambda: WideResNet(10, 1, 0.3, 3, 1),
    "functional": lambda: Functional(3),
    "normalised": lambda: Normalized(SmallCnn(3, 8, 4, 1, (SIDE, SIDE)), [0.4], [0.3]),
}
# Weights that leave the network in doubt: a dense Hessian by autograd loses the digits of 1 - p.
GAIN = {"residual": 0.7, "wide residual": 0.7}
SMOOTH = {"gelu": nn.GELU, "tanh": nn.Tanh, "softplus": nn.Softplus}


def material(classes: int, count: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, SIDE, SIDE, generator=draw, dtype=torch.float64)
    return images, torch.randint(classes, (count,), generator=draw)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(network: nn.Module, shape: torch.Size, label: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda pixels: cross_entropy(network(pixels.view(1, *shape)), label[None]).sum()


def dense(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in ascending order (N, D) and eigenvectors (N, D, D) of each image's Hessian, by autograd."""
    hessians = [
        torch.autograd.functional.hessian(loss_of(network, image.shape, label), image.flatten())
        for image, label in zip(images, labels, strict=True)
    ]
    return torch.linalg.eigh(torch.stack(hessians))


def gradient_norms(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(network(leaf), labels).sum(), leaf)
    return gradient.flatten(1).norm(dim=1)


def close(found: Tensor, expected: Tensor, relative: float = 1e-10, absolute: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, rtol=relative, atol=absolute)


def follows(found: Curvature, values: Tensor, vectors: Tensor) -> int:
    """Checks the directions where the gap is clear; returns how many those are."""
    clear = (values[:, -1] - values[:, -2]) > CLEAR * values.abs().amax(1)
    cosines = (found.direction.flatten(1) * vectors[:, :, -1]).sum(1).abs()[clear]
    assert (cosines > 1 - 1e-8).all()
    close(found.direction.flatten(1).norm(dim=1), torch.ones(len(values), dtype=torch.float64), 1e-12)
    return int(clear.sum())


# --- the exact form ---


@pytest.mark.parametrize("name", PIECEWISE)
def test_the_exact_form_is_the_largest_eigenvalue_of_the_dense_hessian(name: str) -> None:
    network = stirred(PIECEWISE[name](), GAIN.get(name, 1.5))
    classes = network(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)).shape[1]
    images, labels = material(classes)
    with frozen(network):
        values, vectors = dense(network, images, labels)
        found = exact(network, images, labels)
        assert piecewise_linear(network, images)
        norms = gradient_norms(network, images, labels)
    assert found.method == "exact"
    assert (values[:, -1] > 1e-6).all()
    close(found.eigenvalue, values[:, -1])
    assert follows(found, values, vectors) > 0
    close(found.gradient_norm, norms)
    assert not found.residual.any()


def test_the_exact_form_keeps_its_digits_where_one_minus_p_has_none() -> None:
    """The reference is a sum of positive terms, p_i p_j (J_i - J_j)(J_i - J_j)^T over pairs: nothing cancels."""
    network = stirred(convolutional(4), gain=2.5, seed=5)
    scaled = Calls(lambda pixels: network(pixels.view(-1, 1, SIDE, SIDE)), 4, 4).double().eval()
    with torch.no_grad():
        scaled.head.weight.copy_(20 * torch.eye(4))
        scaled.head.bias.zero_()
    images, _ = material(4, count=12)
    with frozen(scaled):
        labels = scaled(images).argmax(1)
        found, other = exact(scaled, images, labels), exact(scaled, images, (labels + 1) % 4)
        probabilities = scaled(images).softmax(1)
        jacobians = torch.stack(
            [torch.autograd.functional.jacobian(lambda x: scaled(x[None])[0], image).flatten(1) for image in images]
        )
    assert (1 - probabilities.amax(1) == 0).any()
    assert (1 - probabilities.amax(1) > 0.1).any()
    hessians = torch.zeros(len(images), PIXELS, PIXELS, dtype=torch.float64)
    for i in range(4):
        for j in range(i):
            difference = jacobians[:, i] - jacobians[:, j]
            weight = probabilities[:, i] * probabilities[:, j]
            hessians += weight[:, None, None] * difference[:, :, None] * difference[:, None, :]
    values, vectors = torch.linalg.eigh(hessians)
    close(found.eigenvalue, values[:, -1], 1e-8)
    close(other.eigenvalue, found.eigenvalue, 1e-14)
    for one, label in ((found, labels), (other, (labels + 1) % 4)):
        differences = jacobians - jacobians[torch.arange(len(images)), label][:, None]
        close(one.gradient_norm, (probabilities[:, :, None] * differences).sum(1).norm(dim=1), 1e-8)
    assert follows(found, values, vectors) == len(images)


def test_in_float32_a_confident_network_keeps_float32_s_digits() -> None:
    network = stirred(convolutional(4), seed=3)
    with torch.no_grad():
        network[-1].weight.mul_(20)
        network[-1].bias.mul_(20)
    images, labels = material(4, count=12)
    with frozen(network):
        wide = exact(network, images, labels)
        narrow = exact(network.float(), images.float(), labels)
    assert narrow.eigenvalue.dtype == torch.float32
    close(narrow.eigenvalue.double(), wide.eigenvalue, 1e-3)
    assert (wide.alignment(narrow.direction.double()) > 1 - 1e-5).all()


def test_the_eigenvalue_of_a_piecewise_linear_network_does_not_know_the_label() -> None:
    network = stirred(convolutional(3))
    images, labels = material(3)
    with frozen(network):
        found = [exact(network, images, (labels + shift) % 3) for shift in range(3)]
        again = [dense(network, images, (labels + shift) % 3)[0][:, -1] for shift in range(3)]
    for one, values in zip(found, again, strict=True):
        close(one.eigenvalue, found[0].eigenvalue, 1e-13)
        close(one.eigenvalue, values)
    assert not torch.allclose(found[0].gradient_norm, found[1].gradient_norm, rtol=1e-3)


@pytest.mark.parametrize("method", ["exact", "lanczos"])
def test_a_linear_model_has_its_curvature_along_its_weights(method: str) -> None:
    weight = torch.linspace(-1.0, 2.0, PIXELS, dtype=torch.float64)
    network, (images, labels) = Linear(weight), material(2)
    with frozen(network):
        probability = (images.flatten(1) @ weight).sigmoid()
        if method == "exact":
            found = exact(network, images, labels)
        else:
            found = lanczos(network, images, labels, 3, generator())
    close(found.eigenvalue, probability * (1 - probability) * weight.square().sum())
    along = found.direction.flatten(1) @ (weight / weight.norm())  # 1 or -1: an eigenvector has no sign
    close(along.abs(), torch.ones_like(along), 1e-12)
    close(found.gradient_norm, (probability - labels).abs() * weight.norm())


def test_where_all_units_are_dead_curvature_is_zero_and_finite() -> None:
    network = stirred(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 5), nn.ReLU(), nn.Linear(5, 3)))
    with torch.no_grad():
        network[1].bias.fill_(-1e6)
    images, labels = material(3)
    with frozen(network):
        for found in (exact(network, images, labels), lanczos(network, images, labels, PIXELS, generator())):
            for values in (found.eigenvalue, found.gradient_norm, found.residual):
                assert not values.any()
            assert found.direction.isfinite().all()


# --- Lanczos ---


@pytest.mark.parametrize("name", SMOOTH)
def test_lanczos_is_the_largest_algebraic_eigenvalue_of_the_dense_hessian(name: str) -> None:
    network = stirred(convolutional(4, SMOOTH[name]), gain=3.0)
    images, labels = material(4, count=6)
    with frozen(network):
        values, vectors = dense(network, images, labels)
        found = lanczos(network, images, labels, PIXELS, generator())
        norms = gradient_norms(network, images, labels)
    assert found.method == "lanczos"
    scale = values.abs().amax(1)
    assert ((found.eigenvalue - values[:, -1]).abs() < 1e-10 * scale).all()
    close(found.eigenvalue, values[:, -1], 1e-10)
    assert follows(found, values, vectors) > 0
    close(found.gradient_norm, norms)
    assert (found.residual < 1e-10 * scale).all()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_unfinished_lanczos_stays_below_the_largest_eigenvalue_and_owns_its_residual(steps: int) -> None:
    """The direction's quotient v.Hv is the eigenvalue, and an eigenvalue lies within the residual of it."""
    network = stirred(convolutional(4, nn.Tanh), gain=3.0)
    images, labels = material(4)
    with frozen(network):
        values, vectors = dense(network, images, labels)
        found = lanczos(network, images, labels, steps, generator())
    flat = found.direction.flatten(1)[:, :, None]
    product = vectors @ (values[:, :, None] * (vectors.mT @ flat))
    close((flat * product).sum((1, 2)), found.eigenvalue, 1e-9, 1e-15)
    close((product - found.eigenvalue[:, None, None] * flat).flatten(1).norm(dim=1), found.residual, 1e-9, 1e-15)
    assert (found.eigenvalue <= values[:, -1]).all()
    assert (found.residual > 1e-9 * values.abs().amax(1)).all()
    assert ((values - found.eigenvalue[:, None]).abs().amin(1) <= found.residual).all()


def test_lanczos_does_not_fall_for_a_negative_eigenvalue_of_larger_magnitude() -> None:
    """Power iteration would return it; in a network as in numbers known by hand."""
    network = stirred(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 12), nn.Tanh(), nn.Linear(12, 2)), gain=3.0)
    images, labels = material(2, count=12)
    with frozen(network):
        values, _ = dense(network, images, labels)
        found = lanczos(network, images, labels, PIXELS, generator())
    negative = -values[:, 0] > 1.2 * values[:, -1]
    assert negative.any()
    assert ((found.eigenvalue - values[:, -1]).abs() < 1e-10 * values.abs().amax(1)).all()
    center = torch.full((1, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    weight = torch.linspace(-1.0, 9.0, PIXELS, dtype=torch.float64)  # the Hessian at the center: -weight
    known = lanczos(Curved(weight, center), center, torch.tensor([1]), PIXELS, generator())
    close(known.eigenvalue, torch.tensor([1.0], dtype=torch.float64), 1e-10)
    assert known.direction.flatten().abs().argmax() == 0


@pytest.mark.parametrize(
    ("weight", "largest"),
    [
        (torch.linspace(0.5, 9.0, PIXELS), -0.5),
        (torch.full((PIXELS,), 3.0), -3.0),
        (torch.eye(PIXELS)[4] * 3.0, 0.0),
        (torch.zeros(PIXELS), 0.0),
    ],
    ids=["all negative", "all the same", "one negative, the others zero", "zero"],
)
@pytest.mark.parametrize("steps", [2, PIXELS, 10 * PIXELS])
def test_lanczos_where_no_eigenvalue_is_positive(weight: Tensor, largest: float, steps: int) -> None:
    center = torch.full((3, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    found = lanczos(Curved(weight.double(), center[:1]), center, torch.tensor([1, 1, 1]), steps, generator())
    if steps == 2 and len(weight.unique()) > 2:  # two steps cannot tell 36 eigenvalues apart, but stay inside
        assert (found.eigenvalue < largest).all()
        assert (found.eigenvalue > -weight.max()).all()
        return
    close(found.eigenvalue, torch.full((3,), largest, dtype=torch.float64), 1e-10, 1e-12)
    assert (found.residual < 1e-12).all()
    assert found.direction.isfinite().all()


@pytest.mark.parametrize("name", ["conv, 2 classes", "conv, 3 classes", "leaky", "residual", "functional"])
def test_lanczos_outlives_its_invariant_subspace_and_agrees_with_the_exact_form(name: str) -> None:
    """A piecewise linear network's Hessian has rank C - 1: the Krylov space is exhausted after C steps."""
    network = stirred(PIECEWISE[name](), GAIN.get(name, 1.5))
    classes = network(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)).shape[1]
    images, labels = material(classes)
    with frozen(network):
        known = exact(network, images, labels)
        for steps in (classes, PIXELS):
            found = lanczos(network, images, labels, steps, generator())
            close(found.eigenvalue, known.eigenvalue)
            close(found.gradient_norm, known.gradient_norm)
            assert (found.residual < 1e-10 * known.eigenvalue).all()
            assert (known.alignment(found.direction) > 1 - 1e-8).all()


def test_lanczos_in_float32_outlives_its_invariant_subspace_too() -> None:
    network = stirred(convolutional(3))
    images, labels = material(3)
    with frozen(network):
        known = exact(network, images, labels)
        found = lanczos(network.float(), images.float(), labels, PIXELS, generator())
    close(found.eigenvalue.double(), known.eigenvalue, 1e-4)
    assert (found.residual < 1e-4 * known.eigenvalue).all()


def test_an_image_whose_space_is_exhausted_does_not_disturb_its_neighbours() -> None:
    """One batch with a zero Hessian, one of rank one, and a full one."""
    center = torch.full((1, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    full, single = torch.linspace(-3.0, 2.0, PIXELS, dtype=torch.float64), torch.eye(PIXELS).double()[3] * -7.0

    class Mixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            weights = torch.stack([0 * full, single, full])
            value = ((images - center).flatten(1).square() * weights).sum(1)
            return torch.stack([torch.zeros_like(value), value], 1)

    found = lanczos(Mixed(), center.repeat(3, 1, 1, 1), torch.tensor([1, 1, 1]), PIXELS, generator())
    close(found.eigenvalue, torch.tensor([0.0, 7.0, 3.0], dtype=torch.float64), 1e-10, 1e-12)
    assert (found.residual < 1e-10).all()


# --- what torch cannot differentiate twice ---


class Once(torch.autograd.Function):
    """x + x^3 / 3, whose derivative has none: as of a kernel of somebody's own."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x + x**3 / 3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * (1 + ctx.saved_tensors[0] ** 2)


class Narrow(Once):
    """The same in float32 only."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        return Once.forward(ctx, x)


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Gated(nn.Module):
    """A squeeze-and-excite gate: the hard sigmoid of a mean, times what it is the mean of."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(2 * x.mean((2, 3), keepdim=True))


def between(layer: Callable[[], nn.Module]) -> nn.Module:
    """A layer between two convolutions with kinks."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), layer()),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)),
    )


def by_hand(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


HARD = {
    "hard sigmoid": (lambda: Gated(nn.Hardsigmoid()), lambda: Gated(by_hand)),
    "in place": (lambda: Gated(nn.Hardsigmoid(inplace=True)), lambda: Gated(by_hand)),
    "by function": (lambda: Gated(functional.hardsigmoid), lambda: Gated(by_hand)),
    "hard swish": (nn.Hardswish, lambda: Applied(lambda x: x * by_hand(x))),
    "once differentiable": (lambda: Applied(Once.apply), lambda: Applied(lambda x: x + x**3 / 3)),
}


@pytest.mark.parametrize("name", HARD)
def test_what_torch_cannot_differentiate_twice_has_the_eigenvalue_of_its_twin_s_dense_hessian(name: str) -> None:
    images, labels = material(4, count=12)
    found, twin = (stirred(between(layer), gain=2.0) for layer in HARD[name])
    with frozen(twin):
        values, vectors = dense(twin, images, labels)
    got = curvature(found, [(images, labels)], generator(), STEPS)
    assert got.method == ("differences" if "once" in name else "lanczos")
    bound = 1e-6 * values.abs().amax(1) + 1e-7
    assert ((got.eigenvalue - values[:, -1]).abs() < bound).all()
    close(got.gradient_norm, gradient_norms(twin, images, labels), 1e-10)
    assert (got.residual < bound).all()
    clear = values[:, -1] - values[:, -2] > CLEAR * values.abs().amax(1).clamp_min(0.1)
    assert clear.any()
    assert ((got.direction.flatten(1) * vectors[:, :, -1]).sum(1).abs()[clear] > 1 - 1e-6).all()
    # The images and the network of a run are in float32; differences are taken in float64 all the same.
    narrow = curvature(found.float(), [(images.float(), labels)], generator(), STEPS)
    assert narrow.eigenvalue.dtype == torch.float32
    assert ((narrow.eigenvalue - values[:, -1]).abs() < 100 * bound).all()


@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_differences_agree_with_derivatives_also_beside_kinks(name: str) -> None:
    """An image is put on a kink of a ReLU: within a step of it the gradient jumps, which is no curvature."""
    network = stirred(between(SMOOTH[name]), gain=2.0)
    images, labels = material(4, count=6)
    with frozen(network):
        inner = network[0](images)
        for image in range(3):  # 1e-9 beyond the kink of some unit
            unit = (image, image, image + 1, image + 1)
            leaf = images.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(network[0](leaf)[unit], leaf)
            images -= slope / slope.square().sum() * (inner[unit] - 1e-9)
        near = network[0](images).abs().flatten(1).amin(1)
        assert (near[:3] < 2e-9).all()
        vectors = torch.randn(6, PIXELS, generator=generator(), dtype=torch.float64)
        vectors /= vectors.norm(dim=1, keepdim=True)
        (one, by_derivative), (two, by_difference) = (
            way(network, images, labels) for way in (differentiated, differences)
        )
        close(two, one, 1e-12, 1e-14)
        close(by_difference(vectors), by_derivative(vectors), 1e-5, 1e-6)


def test_a_kernel_that_knows_float32_only_is_measured_in_it() -> None:
    images, labels = material(4)
    twin = stirred(between(HARD["once differentiable"][1]), gain=2.0)
    with frozen(twin):
        values, _ = dense(twin, images, labels)
    network = stirred(between(lambda: Applied(Narrow.apply)), gain=2.0).float()
    found = curvature(network, [(images.float(), labels)], generator(), STEPS)
    assert found.method == "differences"
    assert ((found.eigenvalue - values[:, -1]).abs() < 0.05 * values.abs().amax(1)).all()


def test_a_network_that_torch_can_differentiate_twice_is_differentiated() -> None:
    images, labels = material(4)
    for layer, way in (
        (nn.GELU, differentiated),
        (HARD["in place"][0], clamped),
        (HARD["hard swish"][1], differentiated),
    ):
        network = stirred(between(layer))
        with frozen(network):
            assert products_of(network, images[:1], labels[:1]) is way


def test_the_residual_is_told_relative_to_the_eigenvalue_too() -> None:
    one = torch.ones(4, dtype=torch.float64)
    values, residual = torch.tensor([2.0, -2.0, 1e-9, 0.0]).double(), torch.tensor([0.5, 0.5, 0.5, 0.0]).double()
    found = Curvature("lanczos", values, one, one, residual).relative_residual
    close(found, torch.tensor([0.25, 0.25, 1.0, 0.0], dtype=torch.float64))


STEPS = 64  # of Lanczos, as many as there are pixels

# --- both, as the evaluation calls them ---


def test_the_method_follows_the_network_and_is_recorded() -> None:
    images, labels = material(3)
    for activation, method in ((nn.ReLU, "exact"), (nn.LeakyReLU, "exact"), (nn.GELU, "lanczos")):
        network = stirred(convolutional(3, activation))
        found = curvature(network, [(images, labels)], generator(), STEPS)
        assert found.method == method
        assert found.direction.shape == images.shape
        assert found.eigenvalue.shape == found.gradient_norm.shape == found.residual.shape == (len(images),)
        with frozen(network):
            values, _ = dense(network, images, labels)
        # The evaluation takes 32 steps for 36 pixels.
        close(found.eigenvalue, values[:, -1], 1e-8)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_results_do_not_depend_on_how_images_are_batched(activation: type[nn.Module], monkeypatch) -> None:
    network = stirred(convolutional(3, activation), gain=2.0)
    images, labels = material(3, count=7)
    whole = curvature(network, [(images, labels)], generator(), STEPS)
    for size in (1, 3):
        split = list(zip(images.split(size), labels.split(size), strict=True))
        found = curvature(network, split, generator(), STEPS)
        for name in ("eigenvalue", "gradient_norm"):
            close(getattr(found, name), getattr(whole, name), 1e-9)
        assert (found.alignment(whole.direction) > 1 - 1e-8).all()


@pytest.mark.parametrize("most", [1, 2 * PIXELS, 5 * 2 * PIXELS])
def test_results_do_not_depend_on_how_much_is_held_at_a_time(most: int, monkeypatch) -> None:
    network = stirred(convolutional(3))
    images, labels = material(3, count=7)
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with frozen(network):
        whole = exact(network, images, labels)
        sizes.clear()
        monkeypatch.setattr(input_hessian, "MOST_NUMBERS", most)
        found = exact(network, images, labels)
    assert max(sizes) == {1: 1, 2 * PIXELS: 1, 10 * PIXELS: 5}[most]
    assert sum(sizes[1:]) == 7
    for name in ("eigenvalue", "direction", "gradient_norm", "residual"):
        close(getattr(found, name), getattr(whole, name), 1e-9, 1e-12)


def test_the_start_of_lanczos_follows_its_generator() -> None:
    network = stirred(convolutional(3, nn.GELU))
    images, labels = material(3)
    with frozen(network):
        one, two, other = (lanczos(network, images, labels, 3, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.direction, two.direction)
    assert not torch.equal(one.direction, other.direction)


@pytest.mark.parametrize("stale", ["training mode", "no running statistics"])
def test_batch_statistics_are_refused(stale: str) -> None:
    images, labels = material(3)
    network = stirred(convolutional(3))
    network[1].train(stale == "training mode")
    if stale == "no running statistics":
        network[1] = nn.BatchNorm2d(4, track_running_stats=False).double().eval()
    with pytest.raises(InputError, match="1 is BatchNorm"):
        piecewise_linear(network, images)
    with pytest.raises(InputError, match="batch's own statistics"):
        exact(network, images, labels)
    with pytest.raises(InputError, match="batch's own statistics"):
        lanczos(network, images, labels, 3, generator())
    if stale == "no running statistics":  # evaluation mode does not mend that
        with pytest.raises(InputError):
            curvature(network, [(images, labels)], generator(), STEPS)
        assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_the_network_is_measured_in_evaluation_mode_and_left_as_it_was(activation: type[nn.Module]) -> None:
    network = stirred(nn.Sequential(nn.Dropout(0.5), convolutional(3, activation)))
    images, labels = material(3)
    known = curvature(network, [(images, labels)], generator(), STEPS)
    network.train()
    network[1][2].eval()
    network[1][0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    learning = [parameter.requires_grad for parameter in network.parameters()]
    found = curvature(network, [(images, labels)], generator(), STEPS)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == learning
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(found.eigenvalue, known.eigenvalue)
    assert not found.eigenvalue.requires_grad
    assert not found.direction.requires_grad
    assert not found.gradient_norm.requires_grad


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_curvature_is_measured_wherever_lightning_puts_it(activation: type[nn.Module], mode) -> None:
    network = stirred(convolutional(3, activation))
    images, labels = material(3)
    known = curvature(network, [(images, labels)], generator(), STEPS)
    with mode():
        # Made inside, as a loader under inference mode would.
        found = curvature(network, [(images.clone(), labels.clone())], generator(), STEPS)
    for name in ("eigenvalue", "direction", "gradient_norm"):
        close(getattr(found, name), getattr(known, name))


def test_channels_last_images_give_the_same_directions() -> None:
    network = stirred(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)))
    images = torch.rand(4, 3, 4, 4, generator=generator(), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    other = images.to(memory_format=torch.channels_last)
    with frozen(network):
        for ask in (exact, lambda *given: lanczos(*given, 48, generator())):
            one, two = ask(network, images, labels), ask(network, other, labels)
            assert two.direction.shape == images.shape
            close(two.eigenvalue, one.eigenvalue, 1e-9)
            assert (one.alignment(two.direction) > 1 - 1e-8).all()


def test_alignment_is_the_cosine_s_magnitude() -> None:
    network, (images, labels) = stirred(convolutional(3)), material(3)
    found = curvature(network, [(images, labels)], generator(), STEPS)
    ones = torch.ones(len(images), dtype=torch.float64)
    for factor in (1.0, -1.0, 1e-9, 37.0):
        close(found.alignment(factor * found.direction), ones, 1e-12)
    assert torch.equal(found.alignment(torch.zeros_like(images)), 0 * ones)
    noise = torch.randn(images.shape, generator=generator(), dtype=torch.float64)
    cosines = found.alignment(noise)
    assert ((cosines >= 0) & (cosines <= 1)).all()
    assert (cosines > 0).all()
    flat = found.direction.flatten(1)
    across = noise.flatten(1) - (noise.flatten(1) * flat).sum(1, keepdim=True) * flat
    close(found.alignment(across.view_as(images)), 0 * ones, 0, 1e-12)
    half = flat + across / across.norm(dim=1, keepdim=True)
    close(found.alignment(half.view_as(images)), ones / math.sqrt(2), 1e-10)


# --- which networks are piecewise linear ---

ARCHITECTURES = sorted(path.stem for path in (conf_folder() / "architecture").glob("*.yaml"))


@pytest.mark.parametrize("option", [name for name in ARCHITECTURES if name != "imported"])
def test_every_architecture_but_smooth_and_implicit_ones_is_seen_to_be_piecewise_linear(
    option: str,
) -> None:
    config = yaml.safe_load((conf_folder() / "architecture" / f"{option}.yaml").read_text())
    side = 32 if option.startswith(("vgg", "vit")) else 8
    facts = {"num_classes": 3, "in_channels": 3, "image_size": (side, side)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Normalized(build.network(config, facts), [0.5] * 3, [0.2] * 3)
    with frozen(network):
        assert piecewise_linear(network, torch.rand(1, 3, side, side)) == (
            option not in ("vit_tiny", "nemon", "two_layer", "enresnet20", "tnn", "tnn_leapfrog")
        )


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(SIDE, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0]
        return self.inner(rows, rows, rows, need_weights=False)[0].mean(1)


CONSTANT = torch.linspace(1, 2, PIXELS)
YES = {
    "constant product": Calls(lambda x: x * CONSTANT),
    "constant denominator": Calls(lambda x: x / CONSTANT),
    "number": Calls(lambda x: (3 * x - 1) / 2),
    "matrix": Calls(lambda x: torch.relu(x @ torch.eye(PIXELS))),
    "maximum": Calls(lambda x: torch.maximum(x, -x + 1).clamp(0.1, 0.9)),
    "absolute": Calls(lambda x: (x - 0.5).abs()),
    "pieces": Calls(lambda x: torch.cat([x[:, :6], torch.where(x > 0.5, x, 2 * x)[:, 6:]], 1)),
    "relu6": Calls(functional.relu6),
    "hard sigmoid": Calls(functional.hardsigmoid),
    "hard sigmoid in place": Calls(lambda x: nn.Hardsigmoid(inplace=True)(7 * x - 3)),
    "hard tanh": Calls(functional.hardtanh),
    "in place": Calls(lambda x: (x - 0.5).relu_()),
    "padded": nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, 2, 3), nn.PReLU(2), nn.Flatten(), nn.Linear(72, 2)),
}
NO = {
    "gelu": Calls(functional.gelu),
    "silu": Calls(functional.silu),
    "softmax": Calls(lambda x: x.softmax(1)),
    "attention": Attention(),
    "attention by hand": Calls(lambda x: (x.view(-1, 6, 6) @ x.view(-1, 6, 6).mT).softmax(2).flatten(1)),
    "square": Calls(lambda x: x * x),
    "power": Calls(lambda x: x**2),
    "hard gate": Calls(lambda x: x * functional.hardsigmoid(x.mean(1, keepdim=True))),
    "hard swish": Calls(functional.hardswish),
    "gate": Calls(lambda x: x * x.mean(1, keepdim=True)),
    "bilinear": Calls(lambda x: (x.view(-1, 6, 6) @ x.view(-1, 6, 6)).flatten(1)),
    "denominator": Calls(lambda x: x / (1 + x.sum(1, keepdim=True))),
    "reciprocal": Calls(lambda x: 1 / (1 + x)),
    "constant over the input": Calls(lambda x: CONSTANT / (1 + x)),
    "length": Calls(lambda x: functional.normalize(x)),
    "layer norm": Calls(lambda x: functional.layer_norm(x, (PIXELS,))),
    "group norm": nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten(), nn.Linear(PIXELS, 2)),
    "sigmoid": Calls(torch.sigmoid),
    "gate after relu": Calls(lambda x: torch.relu(x) * torch.relu(x - 1)),
}
# What reaches the graph under the name of an operation that is linear otherwise.
DISGUISED = {
    "instance norm": nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)),
    "statistics of the batch by function": Calls(
        lambda x: functional.batch_norm(x.view(-1, 1, SIDE, SIDE), None, None, training=True).flatten(1)
    ),
    "slope from the input": Calls(lambda x: functional.prelu(x - 0.5, x.mean().view(1))),
}


@pytest.mark.parametrize("name", YES)
def test_piecewise_linear_networks_are_recognised(name: str) -> None:
    network = YES[name].eval()
    with frozen(network):
        assert piecewise_linear(network, material(3)[0].float())


@pytest.mark.parametrize("name", NO)
def test_smooth_networks_are_recognised(name: str) -> None:
    network = NO[name].eval()
    with frozen(network):
        assert not piecewise_linear(network, material(3)[0].float())


@pytest.mark.parametrize("name", DISGUISED)
def test_operations_that_are_linear_under_other_arguments_only_count_as_smooth(name: str) -> None:
    network = DISGUISED[name].eval()
    with frozen(network):
        assert not piecewise_linear(network, material(3)[0].float())


def test_an_instance_norm_gets_the_curvature_of_its_dense_hessian() -> None:
    network = stirred(DISGUISED["instance norm"])
    images, labels = material(3)
    found = curvature(network, [(images, labels)], generator(), STEPS)
    with frozen(network):
        values, _ = dense(network, images, labels)
    close(found.eigenvalue, values[:, -1], 1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_look_at_the_graph_works_without_gradients_around_it(mode) -> None:
    for activation, expected in ((nn.ReLU, True), (nn.GELU, False)):
        network, images = stirred(convolutional(3, activation)), material(3)[0]
        with mode(), frozen(network):
            assert piecewise_linear(network, images.clone()) is expected


# --- gradients and ensembles ---


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_input_gradients_are_each_image_s_own(mode) -> None:
    network = stirred(nn.Sequential(nn.Dropout(0.5), convolutional(3, nn.GELU)))
    images, labels = material(3, count=5)
    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(loss_of(network, image.shape, label), image.flatten())
            for image, label in zip(images, labels, strict=True)
        ]
    )
    network.train()
    with mode():
        found = input_gradients(network, list(zip(images.split(2), labels.split(2), strict=True)))
    close(found, expected, 1e-9, 1e-14)
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_the_cosine_of_rows() -> None:
    first = torch.tensor([[1.0, 2, 3], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 2, 3], [0, 0, 0]])
    second = torch.tensor([[1.0, 2, 3], [0, 5, 0], [-2, -2, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0]])
    found = cosine(first, second)
    close(found[:3], torch.tensor([1.0, 0, -1]), 1e-6, 1e-7)
    assert found[3:].isnan().all()
    close(cosine(3 * first[:3], second[:3]), found[:3], 1e-6, 1e-7)


class Always(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities() -> None:
    members = [stirred(convolutional(4), seed=seed).float() for seed in range(3)]
    images = material(4)[0].float()
    with torch.no_grad():
        answer = Ensemble(members)(images)
        mean = torch.stack([member(images).softmax(1) for member in members]).mean(0)
        single = Ensemble(members[:1])(images)
    close(answer.exp(), mean, 1e-5, 1e-7)
    close(answer.exp().sum(1), torch.ones(len(images)), 1e-5)
    close(single, members[0](images).detach().log_softmax(1), 1e-6, 1e-6)


def test_an_ensemble_s_logarithm_is_stable() -> None:
    answer = Ensemble([Always(1000.0, 0.0, -1000.0), Always(0.0, 1000.0, -1000.0)])(torch.zeros(2, 1, 2, 2))
    close(answer[0], torch.tensor([-math.log(2), -math.log(2), -2000 - math.log(0.5) - math.log(2)]), 1e-6)
    assert answer.dtype == torch.float32
    assert Ensemble([Always(0.0, 1.0).to(torch.bfloat16)])(torch.zeros(1, 1, 2, 2)).dtype == torch.float32


def test_an_ensemble_s_members_are_frozen_and_set_to_evaluation_with_it() -> None:
    ensemble = Ensemble([stirred(convolutional(3)).train(), stirred(convolutional(3), seed=2).train()])
    images, labels = material(3)
    found = input_gradients(ensemble, [(images, labels)])
    assert ensemble.members[0].training
    ensemble.eval()
    expected = torch.autograd.functional.jacobian(
        lambda pixels: (
            -torch.stack([m(pixels).softmax(1) for m in ensemble.members])
            .mean(0)
            .gather(1, labels[:, None])
            .log()
            .sum()
        ),
        images,
    )
    close(found, expected.flatten(1), 1e-4, 1e-6)
