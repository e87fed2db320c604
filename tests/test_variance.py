"""Variance correction of averaged weights: every unit gets the moments that it should have."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import mcr
from mcr.numerics.seeding import generator
from mcr.weightspace.variance import Moments, blended, corrected, moments
from tests.test_permutation import SHAPE, zoo

SMALL = (3, 8, 8)


def images(shape: tuple[int, int, int] = SMALL, count: int = 40) -> Tensor:
    return torch.rand(count, *shape, dtype=torch.float64, generator=generator(0, "images"))


class Mixed(nn.Module):
    """Layers that can be corrected ("first", "inner", "grouped", "tokens") and such that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.plain = nn.Conv2d(8, 8, 1, bias=False)
        self.inner = nn.Conv2d(8, 8, 3)
        self.before = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.tokens = nn.Linear(8, 8)
        self.twice = nn.Linear(8, 8)
        self.tied, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.tied.weight
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(self.plain(self.first(x).relu())).relu_()
        x = x + self.grouped(self.norm(self.before(x)).relu()).relu()
        x = self.tokens(x.flatten(2).transpose(1, 2)).tanh().mean(1)
        x = self.twice(self.twice(x).relu()).relu()
        return self.head(self.other(self.tied(x).relu()).relu())


def made(seed: int, kind: type[nn.Module] = Mixed) -> nn.Module:
    torch.manual_seed(seed)
    return kind().double().eval()


def middle(one: nn.Module, other: nn.Module) -> nn.Module:
    found = copy.deepcopy(one)
    with torch.no_grad():
        for parameter, further in zip(found.parameters(), other.parameters(), strict=True):
            parameter.lerp_(further, 0.5)
    return found


def slow(network: nn.Module, name: str, data: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std of what a layer gives, from all of it at once."""
    kept = []
    handle = network.get_submodule(name).register_forward_hook(
        lambda _, __, output: kept.append(output.detach().clone())
    )
    network(data)
    handle.remove()
    (values,) = kept
    rows = values.movedim(-1 if isinstance(network.get_submodule(name), nn.Linear) else 1, 0).flatten(1)
    return rows.mean(1), rows.std(1, correction=0)


CORRECTED = ("first", "inner", "grouped", "tokens")


def test_the_moments_are_those_of_all_values_at_once() -> None:
    network, data = made(0), images()
    found = moments(network, lambda: data.split(16))
    assert tuple(found) == CORRECTED
    for name, one in found.items():
        mean, std = slow(network, name, data)
        torch.testing.assert_close(one.mean, mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.std, std, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_after_the_correction_every_unit_has_the_moments_that_it_should_have(share: float) -> None:
    ends, data = [made(0), made(1)], images()
    network = middle(*ends)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def batches() -> Iterator[Tensor]:
        yield from data.split(16)

    shares = [1 - share, share]
    targets = blended([moments(end, batches) for end in ends], shares)
    changed = corrected(network, targets, batches)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert set(changed) == {f"{name}.{part}" for name in CORRECTED for part in ("weight", "bias")}
    network.load_state_dict(before | changed)
    for name in CORRECTED:
        wanted = [slow(end, name, data) for end in ends]
        for found, parts in zip(slow(network, name, data), zip(*wanted, strict=True), strict=True):
            expected = sum(weight * part for weight, part in zip(shares, parts, strict=True))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_network_that_has_its_own_moments_stays_as_it_is() -> None:
    network, data = made(0), images()
    changed = corrected(network, moments(network, lambda: data.split(16)), lambda: data.split(16))
    for name, tensor in changed.items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=0, atol=1e-9)


def test_a_unit_that_never_changes_is_shifted_and_one_that_should_not_change_is_stilled() -> None:
    network, data = made(0).requires_grad_(False), images()
    network.first.weight[0] = 0
    own = moments(network, lambda: [data])["first"]
    std = own.std.clone()
    std[1] = 0
    changed = corrected(network, {"first": Moments(own.mean + 3, std)}, lambda: [data])
    assert not changed["first.weight"][0].any()
    assert float(changed["first.bias"][0] - network.first.bias[0]) == pytest.approx(3)
    assert not changed["first.weight"][1].any()
    assert float(changed["first.bias"][1]) == pytest.approx(float(own.mean[1] + 3))
    assert all(torch.isfinite(tensor).all() for tensor in changed.values())


@pytest.mark.parametrize(
    ("name", "layers"), [("mlp", 2), ("small_cnn", 3), ("small_vgg", 0), ("vgg16", 15), ("preresnet26", 0)]
)
def test_layers_before_batchnorm_and_the_logits_are_left_alone(name: str, layers: int) -> None:
    found = moments(zoo(name).eval(), lambda: [images(SHAPE, 2)])
    assert len(found) == layers
    assert not any(found[key].mean.shape == (10,) for key in found)


def test_the_layers_of_timm_s_batchnorm_are_left_alone_too() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(x).relu())
            x = nn.functional.batch_norm(x, self.norm.running_mean, self.norm.running_var)
            return self.head(x.mean((2, 3)))

    assert tuple(moments(made(0, Functional), lambda: [images()])) == ("first",)


def test_a_line_between_two_networks_is_fainter_in_its_middle_and_no_longer_so_once_corrected() -> None:
    """Why: the mean of two unrelated units varies less than either (Jordan et al. 2023, section 3)."""

    class Deep(nn.Sequential):
        def __init__(self) -> None:
            layers = [layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())]
            super().__init__(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), *layers, nn.Linear(64, 4))
            for layer in self:
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    ends, data = [made(seed, Deep) for seed in (0, 1)], images(count=200)
    network = middle(*ends)
    last, single = "9", [moments(end, lambda: [data]) for end in ends]
    target = blended(single, [0.5, 0.5])
    faint = moments(network, lambda: [data])[last].std.mean() / target[last].std.mean()
    assert faint < 0.5
    network.load_state_dict(network.state_dict() | corrected(network, target, lambda: [data]))
    torch.testing.assert_close(moments(network, lambda: [data])[last].std, target[last].std, rtol=0, atol=1e-6)


def test_the_network_between_two_has_the_moments_of_both() -> None:
    """Of the library: at the middle each unit's standard deviation is the mean of the ends' own; at an end its own."""
    torch.manual_seed(0)
    ends = [nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)) for _ in range(2)]
    images = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    data = (images, torch.arange(60) % 3)
    path = mcr.Subspace(ends, "linear")

    def std(network: nn.Module) -> torch.Tensor:
        return network[1](images.flatten(1) / 255).std(0, correction=0)

    middle = path.corrected(0.5, data, batch_size=25)
    wanted = (std(ends[0]) + std(ends[1])) / 2
    torch.testing.assert_close(std(middle), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(std(path.at(0.5)), wanted, rtol=1e-2)
    torch.testing.assert_close(std(path.corrected(1.0, data, batch_size=25)), std(ends[1]), rtol=1e-4, atol=1e-5)
