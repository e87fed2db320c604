"""Controls and published baselines of repair, each against its own equation by a slow twin."""

from __future__ import annotations

import copy as copies
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.repairs.anp import Anp
from mcr.repairs.average import Average
from mcr.repairs.bench import Bench
from mcr.repairs.clp import Clp, bounds, normalised
from mcr.repairs.rebn import Rebn
from mcr.repairs.swap import Swap
from mcr.training.anp import AnpModule
from mcr.training.endpoint import EndpointModule
from mcr.training.fst import FstModule
from mcr.training.ft_sam import FtSamModule
from tests.test_repairs import CLASSES, Tied, assert_same, bench, copy, images, net, recipe, refreshed, train

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

    def forward(self, pixels: Tensor) -> Tensor:
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


# What is trained


def still(seed: int = 1) -> nn.Module:
    """Float64, in training mode, without dropout: a pass is a function of the weights alone."""
    network = net(seed).double().train()
    network.dropout.p = 0.0
    return network


BATCH = (images(12, "batch").double(), torch.arange(12) % CLASSES)


def of_a_step(module: EndpointModule) -> tuple[Tensor, Tensor]:
    """Losses and logits of one step, outside of a training."""
    module.draw = generator(0, "step")
    return module.losses(CrossEntropy(), BATCH)


def stepped(module: EndpointModule) -> dict[str, Tensor]:
    """The gradients of one step."""
    of_a_step(module)[0].mean().backward()
    return {name: tensor.grad for name, tensor in module.network.named_parameters() if tensor.grad is not None}


# FT-SAM


def smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The cross-entropy against the smoothed labels, class by class."""
    total = torch.zeros(())
    for row, label in zip(logits.log_softmax(1), labels, strict=True):
        for number in range(CLASSES):
            total = total - (1 - smoothing if number == label else smoothing / (CLASSES - 1)) * row[number]
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_of_sam_follows_the_gradient_at_the_worst_weights_nearby(smoothing: float) -> None:
    module = FtSamModule(0.7, smoothing, network=still(), **recipe())
    found = stepped(module)
    twin, at = still(), still()
    smoothed(twin(BATCH[0]), BATCH[1], smoothing).backward()
    norm = math.sqrt(sum(float((w.detach() * w.grad).square().sum()) for w in twin.parameters()))
    moved = 0.0
    for there, here in zip(at.parameters(), twin.parameters(), strict=True):
        step = 0.7 * here.detach() ** 2 * here.grad / norm
        moved += float((step / here.detach()).square().sum())
        there.data += step
    assert math.sqrt(moved) == pytest.approx(0.7)  # the radius is that of |e / w|
    smoothed(at(BATCH[0]), BATCH[1], smoothing).backward()
    for name, there in at.named_parameters():
        torch.testing.assert_close(found[name], there.grad, rtol=1e-9, atol=1e-12)
        here = twin.get_parameter(name).grad
        assert name == "first.bias" or not torch.allclose(found[name], here, rtol=1e-3)  # BatchNorm takes it away
    # One pass at the weights themselves has moved the statistics, and the weights are where they were.
    assert_same(copy(module.network), copy(twin))


def test_sam_without_radius_and_smoothing_is_plain_tuning(tmp_path: Path) -> None:
    plain, sam = EndpointModule(network=net(1), **recipe()), FtSamModule(0.0, 0.0, network=net(1), **recipe())
    train(plain, tmp_path / "plain")
    train(sam, tmp_path / "sam")
    assert_same(copy(sam.scored), copy(plain.scored))


@pytest.mark.parametrize(("rho", "smoothing"), [(-1.0, 0.1), (2.0, 1.0), (2.0, -0.1)])
def test_sam_that_makes_no_sense_is_refused(rho: float, smoothing: float) -> None:
    with pytest.raises(InputError, match="repair=ft_sam"):
        FtSamModule(rho, smoothing, network=net(0), **recipe())


# FST


def test_fst_draws_the_head_anew_and_penalises_its_product_with_the_old_one() -> None:
    given_head = still().head.weight.detach().clone()
    module = FstModule(0.3, network=still(), **recipe())
    head = module.network.head
    assert 0 < float(head.weight.detach().abs().max()) <= 20**-0.5
    assert 0 < float(head.bias.detach().abs().max()) <= 20**-0.5
    assert_same(copy(module.network.first), copy(still().first))
    twin = copies.deepcopy(module.network)
    losses, _ = of_a_step(module)
    product = sum(a * b for a, b in zip(head.weight.flatten().tolist(), given_head.flatten().tolist(), strict=True))
    expected = functional.cross_entropy(twin(BATCH[0]), BATCH[1], reduction="none") + 0.3 * product
    torch.testing.assert_close(losses, expected)
    other = FstModule(0.3, network=still(), **recipe(seed="other"))
    assert not torch.equal(other.network.head.weight, head.weight)


def test_the_head_of_fst_keeps_the_norm_of_the_old_one_and_turns_away(tmp_path: Path) -> None:
    norm = float(net(1).head.weight.detach().norm())
    products = []
    for alpha in (0.0, 5.0):
        module = FstModule(alpha, network=net(1), **recipe())
        train(module, tmp_path / str(alpha), steps=10)
        head = module.network.head.weight.detach()
        assert float(head.norm()) == pytest.approx(norm, rel=1e-6)
        products.append(float((head * net(1).head.weight.detach()).sum()) / norm**2)
        assert not torch.equal(module.network.first.weight, net(1).first.weight)
    assert products[1] < products[0]
    assert products[1] < -0.5


def test_fst_needs_a_linear_layer_of_as_many_answers() -> None:
    with pytest.raises(InputError, match=r"repair=fst .* none of 7"):
        FstModule(0.2, network=net(0), **recipe(num_classes=7))
    with pytest.raises(InputError, match="alpha"):
        FstModule(-0.2, network=net(0), **recipe())


# ANP


def by_hand(network: nn.Module, mask: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The mean loss of ``Net`` with its BatchNorm written out: (m + d) gamma z + (1 + x) beta."""
    made = network.first(BATCH[0])
    mean, variance = made.mean((0, 2, 3), keepdim=True), made.var((0, 2, 3), unbiased=False, keepdim=True)
    norm = network.norm
    weight, bias = ((mask + scale) * norm.weight.detach(), (1 + shift) * norm.bias.detach())
    z = (made - mean) / (variance + norm.eps).sqrt()
    hidden = (weight[:, None, None] * z + bias[:, None, None]).relu()
    logits = network.head(network.second(hidden).relu().flatten(1)) + network.offset
    return functional.cross_entropy(logits, BATCH[1])


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_of_anp_is_its_inner_and_outer_problem(steps: int) -> None:
    eps, alpha = 0.4, 0.2
    module = AnpModule(eps, steps, alpha, 1.0, network=still(), **recipe())
    module.start = generator("s", "neurons", 0)
    found = stepped(module)
    assert list(found) == ["norm.anp_mask"]
    draw, twin, mask = generator("s", "neurons", 0), still(), torch.ones(4, dtype=torch.float64, requires_grad=True)
    scale, shift = (eps * (2 * torch.rand(4, generator=draw) - 1).double() for _ in range(2))
    assert max(float(scale.abs().max()), float(shift.abs().max())) <= eps
    for _ in range(steps):
        scale.requires_grad_(), shift.requires_grad_()
        slopes = torch.autograd.grad(by_hand(twin, mask.detach(), scale, shift), (scale, shift))
        scale, shift = (
            (one + eps / steps * slope.sign()).detach() for one, slope in zip((scale, shift), slopes, strict=True)
        )
    none = torch.zeros(4, dtype=torch.float64)
    loss = alpha * by_hand(twin, mask, none, none) + (1 - alpha) * by_hand(twin, mask, scale, shift)
    loss.backward()
    torch.testing.assert_close(found["norm.anp_mask"], mask.grad, rtol=1e-9, atol=1e-12)
    for name, tensor in still().state_dict().items():  # neither weights nor statistics have moved
        assert torch.equal(module.network.state_dict()[name], tensor)


def test_masks_stay_in_range_and_move_by_a_multiple_of_the_rate(tmp_path: Path) -> None:
    before = copy(net(1))
    masks = {}
    for times in (0.5, 1.0, 200.0):
        optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.0)
        module = AnpModule(0.4, 1, 0.2, times, network=net(1), **recipe(optimizer=optimizer))
        train(module, tmp_path / str(times), steps=1, epochs=1)
        state = copy(module.scored)
        masks[times] = state.pop("norm.anp_mask")
        assert_same(state, before)
        assert (masks[times] >= 0).all()
        assert (masks[times] <= 1).all()
    falls = [1 - masks[times] for times in (0.5, 1.0)]
    torch.testing.assert_close(falls[1], 2 * falls[0], rtol=1e-4, atol=1e-6)
    assert 0 < float(falls[1].max()) < 1
    assert {0.0, 1.0} <= set(masks[200.0].tolist())  # clipped at both ends


def test_validation_of_masks_is_that_of_the_masked_network() -> None:
    module = AnpModule(0.4, 1, 0.2, 1.0, network=net(1).eval(), **recipe())
    module.network.norm.anp_mask.data.copy_(torch.tensor([0.0, 1.0, 0.5, 1.0]))
    twin = net(1).eval()
    twin.norm.weight.data *= module.network.norm.anp_mask.data
    torch.testing.assert_close(module.answers(images(5, "asked")), twin(images(5, "asked")))


def masked(mask: list[float]) -> dict[str, Tensor]:
    """What a training of masks leaves; its other weights are of no use."""
    return {**net(7).state_dict(), "norm.anp_mask": torch.tensor(mask)}


def test_anp_prunes_scales_by_their_masks_and_keeps_the_rest_of_the_first_network() -> None:
    trained = {0.3: masked([1.0, 0.2, 0.05, 0.6]), 0.01: masked([1.0] * 4)}
    made, repair = replace(bench(), trained=trained), Anp([0.05, 0.5])
    seen = [(candidate, copy(network)) for candidate, network in repair.candidates(made)]
    assert [candidate for candidate, _ in seen] == [{"rate": r, "threshold": t} for r in trained for t in (0.05, 0.5)]
    gone = {(0.3, 0.05): [2], (0.3, 0.5): [1, 2], (0.01, 0.05): [], (0.01, 0.5): []}
    for candidate, state in reversed(seen):
        expected = {name: tensor.clone() for name, tensor in made.ends["one"].items()}
        expected["norm.weight"][gone[candidate["rate"], candidate["threshold"]]] = 0
        assert_same(state, expected)
        assert_same(copy(repair.rebuild(made, candidate)), state)


@pytest.mark.parametrize("thresholds", [[], [0.2, 0.2], [1.0], [-0.1]])
def test_thresholds_of_masks_that_make_no_sense_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(InputError, match="repair=anp: thresholds="):
        Anp(thresholds)


def test_anp_refuses_a_network_without_batchnorm_and_values_out_of_range() -> None:
    with pytest.raises(InputError, match=r"repair=anp masks .* has none"):
        AnpModule(0.4, 1, 0.2, 2.0, network=net(0, Tied), **recipe())
    for values in ((-0.1, 1, 0.2, 2.0), (0.4, 0, 0.2, 2.0), (0.4, 1, 1.2, 2.0), (0.4, 1, 0.2, 0.0)):
        with pytest.raises(InputError, match="repair=anp: eps"):
            AnpModule(*values, network=net(0), **recipe())
