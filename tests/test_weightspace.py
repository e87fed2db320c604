"""Flat vectors, the model at theta, BatchNorm there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mcr.architectures.small_vgg import SmallVgg
from mcr.curves.bezier import Bezier
from mcr.errors import InputError
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt, blocks
from tests.gradients import free, gradients, subspace_module


class Tied(nn.Module):
    """Two layers that share their weight, a dropout, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("offset", torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.dropout(torch.relu(self.first(x)))) + self.offset


FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def vgg(memory_format: str = "contiguous", seed: int = 0) -> SmallVgg:
    torch.manual_seed(seed)
    return SmallVgg(4, 10, 3).double().to(memory_format=FORMATS[memory_format])


@pytest.mark.parametrize("memory_format", FORMATS)
def test_pack_and_views_are_inverse(memory_format: str) -> None:
    network = vgg(memory_format)
    layout = Layout.of(network, memory_format)
    theta = layout.pack(network.state_dict())
    assert theta.shape == (layout.size,) == (sum(p.numel() for p in network.parameters()),)
    for name, view in layout.views(theta).items():
        assert torch.equal(view, network.state_dict()[name])
    assert torch.equal(layout.pack(layout.views(theta)), theta)


def test_views_of_channels_last_are_channels_last() -> None:
    network = vgg("channels_last")
    ModelAt(network, Layout.of(network, "channels_last"))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(c.weight.is_contiguous(memory_format=torch.channels_last) for c in convolutions)


def test_a_differing_shape_is_refused_by_name() -> None:
    layout = Layout.of(SmallVgg(4, 10, 3), "contiguous")
    with pytest.raises(InputError, match=r"features\.0\.weight differs in shape"):
        layout.pack(SmallVgg(8, 10, 3).state_dict())
    state = SmallVgg(4, 10, 3).state_dict()
    del state["features.4.weight"]
    with pytest.raises(InputError, match=r"no features\.4\.weight"):
        layout.pack(state)


def test_mixed_types_are_refused() -> None:
    with pytest.raises(InputError, match="mixes parameter types"):
        Layout.of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half()), "contiguous")


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_model_at_theta_is_functional_call(memory_format: str) -> None:
    network, images = vgg(memory_format), torch.rand(4, 3, 16, 16, dtype=torch.float64)
    layout = Layout.of(network, memory_format)
    points = [layout.pack(vgg(memory_format, seed).state_dict()) for seed in (1, 2, 3)]
    coefficients = Bezier(3).coefficients(torch.tensor([0.3], dtype=torch.float64))
    theta = sum(c * p for c, p in zip(coefficients, points, strict=True))
    expected = torch.func.functional_call(vgg(memory_format), layout.views(theta), (images,))
    model = ModelAt(network, layout)
    model.place(coefficients, blocks(points))
    torch.testing.assert_close(model.theta, theta, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_at_the_ends_theta_is_the_end_bit_for_bit() -> None:
    network = vgg().float()
    layout = Layout.of(network, "contiguous")
    points = [layout.pack(vgg(seed=seed).float().state_dict()) for seed in (1, 2, 3)]
    model = ModelAt(network, layout)
    for t, point in ((0.0, points[0]), (1.0, points[2])):
        model.place(Bezier(3).coefficients(torch.tensor([t], dtype=torch.float64)), blocks(points))
        assert torch.equal(model.theta, point)


def test_tied_weights_stay_tied() -> None:
    network = Tied()
    layout = Layout.of(network, "contiguous")
    assert "second.weight" not in layout.names
    model = ModelAt(network, layout)
    model.place(torch.tensor([1.0]), [[torch.randn(layout.size)]])
    assert network.second.weight.data_ptr() == network.first.weight.data_ptr()
    network(torch.rand(3, 6)).sum().backward()
    assert model.gradient(0.0, []).abs().sum() > 0


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_control_points_gradient_equals_an_explicit_oracle(memory_format: str, decay: float) -> None:
    """Against functional_call on an explicit combination, BatchNorm in training mode, K = 4, in float64."""
    curve, u = Bezier(4), torch.tensor([0.37], dtype=torch.float64)
    images = torch.rand(8, 3, 16, 16, dtype=torch.float64)
    labels = torch.arange(8) % 10
    network = vgg(memory_format)
    layout = Layout.of(network, memory_format)
    ends = tuple(layout.pack(vgg(memory_format, seed).state_dict()) for seed in (1, 2))
    module = subspace_module(curve=curve, layout=layout, ends=ends, weight_decay=decay, network=network, num_classes=10)
    module.on_train_start()
    module.draw, module.walk = torch.Generator(), lambda progress: u
    loss = module.training_step((images, labels), 0)
    loss.backward()

    leaves = [point.clone().requires_grad_() for point in free(module)]
    points = [ends[0], *leaves, ends[1]]
    theta = sum(c * p for c, p in zip(curve.coefficients(u), points, strict=True))
    oracle = vgg(memory_format)
    logits = torch.func.functional_call(oracle, layout.views(theta), (images,))
    explicit = nn.functional.cross_entropy(logits, labels) + 0.5 * decay * theta.square().sum()
    explicit.backward()
    for gradient, expected in zip(gradients(module), leaves, strict=True):
        error = (gradient - expected.grad).norm() / expected.grad.norm()
        assert error < 1e-10


def test_refresh_gives_the_averages_over_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9)).double()
    network.train()
    batches = [torch.rand(16, 3, 5, 5, dtype=torch.float64) * k for k in (1, 2, 3)]
    batchnorm.refresh(network, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)
    assert network.training
    assert network[0].momentum == 0.1


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class HandedOver(Normed):
    """Gives the tensors of its BatchNorm to a function, as the layers of some libraries do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        if norm.training:
            norm.num_batches_tracked.add_(1)
        factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, factor, norm.eps
        )


@pytest.mark.parametrize("kind", [Normed, HandedOver])
@pytest.mark.parametrize("sizes", [(16, 16, 16), (16, 16, 4), (16, 4, 16, 2), (5, 16)])
def test_refresh_counts_a_batch_by_its_images(kind: type[Normed], sizes: tuple[int, ...]) -> None:
    network = kind()
    torch.manual_seed(0)
    batches = [torch.rand(size, 3, 5, 5, dtype=torch.float64) * (k + 1) for k, size in enumerate(sizes)]
    expected = kind()
    torch.optim.swa_utils.update_bn(batches, expected)  # weighs batches alike
    batchnorm.refresh(network, batches)
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    means = sum(w * batch.mean((0, 2, 3)) for w, batch in zip(weights, batches, strict=True))
    variances = sum(w * batch.var((0, 2, 3)) for w, batch in zip(weights, batches, strict=True))
    torch.testing.assert_close(network.norm.running_mean, means, rtol=1e-12, atol=0)
    torch.testing.assert_close(network.norm.running_var, variances, rtol=1e-12, atol=0)
    alike = torch.allclose(expected.norm.running_mean, means, rtol=1e-6)
    assert alike == (len(set(sizes)) == 1)
    assert network.norm.momentum == 0.1


def test_refresh_leaves_dropout_off_and_networks_without_batchnorm_alone() -> None:
    seen = []
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4))
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(torch.equal(inputs[0], output)))
    network.train()
    batchnorm.refresh(network, [torch.rand(8, 4)])
    assert seen == [True]

    def explode() -> None:
        raise AssertionError("no pass is needed")
        yield

    batchnorm.refresh(nn.Linear(2, 2), explode())
