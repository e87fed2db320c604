"""Controls and published baselines of repair, each against its own equation by a slow twin."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from mcr.errors import InputError
from mcr.repairs.average import Average
from mcr.repairs.bench import Bench
from mcr.repairs.clp import Clp, bounds, normalised
from mcr.repairs.rebn import Rebn
from mcr.repairs.swap import Swap
from tests.test_repairs import Tied, assert_same, bench, copy, images, net, refreshed

UNTRAINED: dict[str, Any] = {"rebn": Rebn(), "average": Average(), "swap": Swap(), "clp": Clp([0.5, 1.0])}


def given(kind: type[nn.Module] | None = None) -> Bench:
    """Two networks, and nothing trained."""
    found = bench(**({"kind": kind} if kind else {}))
    return replace(found, trained={})


@pytest.mark.parametrize("name", UNTRAINED)
def test_an_untrained_repair_gives_the_same_again_and_leaves_the_networks_alone(name: str) -> None:
    repair, made, untouched = UNTRAINED[name], given(), given()
    seen = [(candidate, copy(network)) for candidate, network in repair.candidates(made)]
    assert len(seen) == len(getattr(repair, "u", [0]))
    for candidate, state in reversed(seen):
        for tensor in made.network.parameters():
            tensor.data.add_(1)
        assert_same(copy(repair.rebuild(made, {**candidate, "accuracy": 0.5})), state)
    for end, state in made.ends.items():
        assert_same(state, untouched.ends[end])


def test_rebn_moves_the_statistics_of_the_first_network_alone() -> None:
    made = given()
    ((_, network),) = Rebn().candidates(made)
    found, first = copy(network), made.ends["one"]
    assert_same(found, refreshed(first))
    assert {name for name in found if not torch.equal(found[name], first[name])} == {
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    }


def test_the_average_is_the_mean_of_all_networks_with_its_own_statistics() -> None:
    made = given()
    made = replace(made, ends={**made.ends, "three": net(3).state_dict()})
    found = copy(Average().rebuild(made, {}))
    for name in made.layout.names:
        mean = sum(state[name].double() for state in made.ends.values()) / 3
        torch.testing.assert_close(found[name].double(), mean, rtol=1e-6, atol=1e-7)
    assert torch.equal(found["offset"], made.ends["one"]["offset"])
    assert_same(found, refreshed(found))


def test_the_average_reaches_weights_that_are_tied() -> None:
    made = given(Tied)
    network = Average().rebuild(made, {})
    mean = (made.ends["one"]["first.weight"] + made.ends["two"]["first.weight"]) / 2
    assert network.first.weight is network.second.weight
    torch.testing.assert_close(network.first.weight.detach(), mean)


def test_swap_is_the_second_network() -> None:
    made = given()
    assert_same(copy(Swap().rebuild(made, {})), dict(made.ends["two"]))
    with pytest.raises(InputError, match="only one"):
        list(Swap().candidates(replace(made, ends={"one": made.ends["one"]})))


@pytest.mark.parametrize("name", ["rebn", "clp"])
def test_a_network_without_batchnorm_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"repair={name} .* has none") as caught:
        list(UNTRAINED[name].candidates(given(Tied)))
    assert "\n" not in str(caught.value)


# CLP


class Before(nn.Module):
    """Pre-activation: the first BatchNorm takes a sum, the second one a convolution; a third takes a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.two = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.grouped, self.three = nn.Conv2d(8, 8, (3, 2), groups=4), nn.BatchNorm2d(8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        stem = self.stem(pixels)
        hidden = self.inner(self.one(stem + 1).relu())
        return self.three(self.grouped(self.two(hidden).relu()))


def before() -> Before:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = Before().double().eval()
        for norm in (network.one, network.two, network.three):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.3, 3)
    return network


def slow_bound(convolution: nn.Module, norm: nn.Module, channel: int) -> float:
    """From the largest eigenvalue of the kernel's Gram matrix."""
    kernel = convolution.weight[channel].detach()
    matrix = torch.stack([plane.flatten() for plane in kernel])
    sigma = math.sqrt(float(torch.linalg.eigvalsh(matrix @ matrix.T)[-1]))
    return sigma * abs(float(norm.weight.detach()[channel])) / math.sqrt(float(norm.running_var[channel]) + norm.eps)


def test_the_bound_is_that_of_the_unfolded_kernel_and_its_batchnorm() -> None:
    network = before()
    pairs = normalised(network, images(2, "clp").double())
    assert pairs == [(network.inner, network.two), (network.grouped, network.three)]
    for convolution, norm in pairs:
        expected = [slow_bound(convolution, norm, channel) for channel in range(8)]
        assert bounds(convolution, norm).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("u", [0.0, 0.5, 1.0, 1.6])
def test_channels_above_the_threshold_answer_nothing_and_all_else_stays(u: float) -> None:
    made = given()
    state = dict(made.ends["one"])
    found = copy(Clp([u]).rebuild(made, {"u": u}))
    network = net(1)
    network.load_state_dict(state)
    bound = [slow_bound(network.first, network.norm, channel) for channel in range(4)]
    mean = sum(bound) / 4
    deviation = math.sqrt(sum((value - mean) ** 2 for value in bound) / 3)
    gone = torch.tensor([value > mean + u * deviation for value in bound])
    assert bool(gone.any()) == (u < 1.5)  # of 4 channels none lies further than 1.5 deviations above the mean
    expected = {name: tensor.clone() for name, tensor in state.items()}
    for name in ("norm.weight", "norm.bias"):
        expected[name][gone] = 0
    assert_same(found, expected)


@pytest.mark.parametrize("u", [[], [1.0, 1.0], [-1.0]])
def test_thresholds_that_make_no_sense_are_refused(u: list[float]) -> None:
    with pytest.raises(InputError, match="repair=clp: u="):
        Clp(u)
