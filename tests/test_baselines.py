"""Controls and published baselines of repair, each against its own equation by a slow twin."""

from __future__ import annotations

import copy as copies
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.repairs.anp import Anp
from mcr.repairs.average import Average
from mcr.repairs.bench import Bench
from mcr.repairs.clp import Clp, bounds, normalised
from mcr.repairs.rebn import Rebn
from mcr.repairs.swap import Swap
from mcr.schedules.cosine import Cosine
from mcr.training.anp import AnpModule
from mcr.training.endpoint import EndpointModule
from mcr.training.fst import FstModule
from mcr.training.ft_sam import FtSamModule
from mcr.training.i_bau import IBauModule
from mcr.training.nad import NadModule, TwoPhases, attention, watched
from tests.processes import mcr
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


# NAD


class Towers(nn.Module):
    """Feature maps of 4x4, 2x2 and a single place; the last of 4x4 is a ReLU's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.rest, self.head = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 5, 3, padding=1)), nn.Linear(5, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.rest(self.body(pixels)), 1).flatten(1))


def towers(seed: int = 1) -> nn.Module:
    return net(seed, Towers).double().train()


def slow_attention(features: Tensor, power: float) -> list[list[float]]:
    found = []
    for image in features.detach():
        places = [
            sum(abs(float(v)) ** power for v in image[:, i, j])
            for i in range(len(image[0]))
            for j in range(len(image[0][0]))
        ]
        norm = math.sqrt(sum(value**2 for value in places))
        found.append([value / (norm + 1e-6) for value in places])
    return found


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_attention_is_its_definition(power: float) -> None:
    features = torch.randn(3, 4, 2, 5, dtype=torch.float64, generator=generator(0, "features"))
    assert attention(features, power).tolist() == [pytest.approx(row) for row in slow_attention(features, power)]


def test_the_last_feature_map_of_each_resolution_is_watched() -> None:
    network = towers().eval()
    with watched(network) as seen:
        network(BATCH[0])
    assert list(seen.maps) == [(4, 4), (2, 2)]
    assert torch.equal(seen.images, BATCH[0])
    torch.testing.assert_close(seen.maps[4, 4], network.body(BATCH[0]))
    torch.testing.assert_close(seen.maps[2, 2], network.rest(network.body(BATCH[0])))
    assert not network.body._forward_hooks


@pytest.mark.parametrize("betas", [[7.0], [3.0, 7.0], [100.0, 3.0, 7.0]])
def test_a_step_of_nad_adds_the_distance_of_the_attention_to_the_loss(betas: list[float]) -> None:
    module = NadModule(betas, 2.0, 0.25, network=towers(1), **recipe())
    module.teacher.load_state_dict(towers(2).state_dict())
    twin, teacher = towers(1), towers(2).eval()
    module.total_steps = 2  # the only step lies beyond a quarter
    losses, _ = of_a_step(module)
    own, aim = twin.body(BATCH[0]), teacher.body(BATCH[0])
    pairs = [(own, aim), (twin.rest(own), teacher.rest(aim))][-len(betas) :]
    expected = functional.cross_entropy(towers(1)(BATCH[0]), BATCH[1], reduction="none").tolist()
    for beta, (one, other) in zip(betas[-2:], pairs, strict=True):
        for index, (a, b) in enumerate(zip(slow_attention(one, 2.0), slow_attention(other, 2.0), strict=True)):
            expected[index] += beta * sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    assert losses.tolist() == pytest.approx(expected)
    losses.mean().backward()
    assert all(weight.grad is None for weight in module.teacher.parameters())
    assert module.scored is module.network


def test_the_teacher_is_tuned_first_and_then_stays(tmp_path: Path) -> None:
    def module(teacher: float, schedule: Any) -> NadModule:
        return NadModule([1.0, 1.0], 2.0, teacher, network=net(1, Towers), **recipe(schedule=schedule))

    short, whole = module(0.5, Cosine(0.5)), module(0.999, Cosine(0.5))
    plain = EndpointModule(network=net(1, Towers), **recipe())
    train(plain, tmp_path / "plain", steps=3, epochs=2)
    # All but a rest of the steps: the teacher is the fine-tuned network, the student has not moved.
    whole.schedule = Cosine(0.5)
    train(whole, tmp_path / "whole", steps=3, epochs=2)
    assert_same(copy(whole.scored), copy(plain.scored))
    assert whole.scored is whole.teacher
    assert_same(copy(whole.network), copy(net(1, Towers)))
    train(short, tmp_path / "short", steps=3, epochs=2)
    assert short.scored is short.network
    moved = {
        name
        for name, tensor in copy(short.network).items()
        if not torch.equal(tensor, net(1, Towers).state_dict()[name])
    }
    assert {name for name, _ in net(1, Towers).named_parameters()} <= moved
    assert not torch.equal(short.teacher.head.weight, plain.network.head.weight)


def test_a_schedule_in_two_phases_runs_twice() -> None:
    whole, both = Cosine(0.5), TwoPhases(Cosine(0.5), 0.25)
    for progress in (0.0, 0.1, 0.5, 0.9):
        assert both.factor(0.25 * progress) == pytest.approx(whole.factor(progress))
        assert both.factor(0.25 + 0.75 * progress) == pytest.approx(whole.factor(progress))


def test_nad_refuses_what_it_cannot_distil() -> None:
    module = NadModule([1.0], 2.0, 0.25, network=net(0, Tied).double(), **recipe())
    module.total_steps = 2
    with pytest.raises(InputError, match="repair=nad distils"):
        of_a_step(module)
    for values in (([], 2.0, 0.3), ([-1.0], 2.0, 0.3), ([1.0], 0.0, 0.3), ([1.0], 2.0, 1.0)):
        with pytest.raises(InputError, match="repair=nad: betas"):
            NadModule(*values, network=net(0), **recipe())


# I-BAU


def smooth(seed: int = 3) -> Normalized:
    """A few weights and no kink."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(2, CLASSES))
        network = Normalized(nn.Sequential(*layers), [0.4], [0.25]).double()
    network.network[1].running_var.fill_(0.5)
    return network


def i_bau(**changes: Any) -> IBauModule:
    usual = {"round": 2, "ascent": 10.0, "decay": 2.0, "step": 0.1, "iterations": 5, "share": 1.0, "times": 1.0}
    return IBauModule(**(usual | changes), network=smooth(), **recipe())


OTHERS = [(images(6, "ahead", index).double(), torch.arange(6) % CLASSES) for index in range(4)]


def inner(network: nn.Module, moved: Tensor, decay: float) -> Tensor:
    """What the perturbation maximises, on the first batch of a round."""
    loss = functional.cross_entropy(network(OTHERS[0][0] + 0.25 * moved), OTHERS[0][1])
    return loss - decay * moved.square().sum()


def outer(network: nn.Module, moved: Tensor) -> Tensor:
    return functional.cross_entropy(network(BATCH[0] + 0.25 * moved), BATCH[1])


def hypergradient(module: IBauModule, moved: Tensor) -> Tensor:
    """The gradient of one step at a given perturbation, flat."""
    module.begin(iter(OTHERS))
    module.universal = lambda batches: moved  # type: ignore[method-assign]
    found = stepped(module)
    return torch.cat([tensor.flatten() for tensor in found.values()])


def test_the_hypergradient_is_that_of_the_solved_inner_problem() -> None:
    """At the very maximum and with many iterations: the derivative of H(d(w), w), by differences of solved problems."""
    module = i_bau(iterations=100)

    def solved(network: nn.Module) -> Tensor:
        moved = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
        for _ in range(100):
            moved.requires_grad_()
            moved = (moved + 0.1 * torch.autograd.grad(inner(network, moved, 2.0), moved)[0]).detach()
        return moved

    found = hypergradient(module, solved(smooth().eval()))
    weights = nn.utils.parameters_to_vector(smooth().parameters()).detach()
    direct = torch.autograd.grad(outer(twin := smooth().eval(), solved(twin)), list(twin.parameters()))
    direct = torch.cat([tensor.flatten() for tensor in direct])
    for index in range(0, len(weights), 3):
        sides = []
        for sign in (1, -1):
            moved_weights, network = weights.clone(), smooth().eval()
            moved_weights[index] += sign * 1e-5
            nn.utils.vector_to_parameters(moved_weights, network.parameters())
            sides.append(float(outer(network, solved(network)).detach()))
        assert float(found[index]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-8)
    assert float((found - direct).norm() / direct.norm()) > 1e-3  # what the perturbation answers is no rounding


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_hypergradient_after_a_few_iterations_is_the_truncated_series(iterations: int) -> None:
    """Against the whole matrices dPhi/dd (n, n) and dPhi/dw (n, P), at any perturbation."""
    moved = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=generator(0, "moved"))
    module = i_bau(iterations=iterations, decay=0.01, step=0.3)
    found = hypergradient(module, moved)
    network = smooth().eval()
    names = [name for name, _ in network.named_parameters()]
    shapes = [weight.shape for weight in network.parameters()]

    def at(weights: Tensor) -> Any:
        pieces = weights.split([shape.numel() for shape in shapes])
        named = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return lambda pixels: torch.func.functional_call(network, named, (pixels,))

    def phi(flat: Tensor, weights: Tensor) -> Tensor:
        one = flat.view(1, 1, 4, 4)
        slope = torch.autograd.grad(inner(at(weights), one, 0.01), one, create_graph=True)[0]
        return flat + 0.3 * slope.flatten()

    weights = nn.utils.parameters_to_vector(network.parameters()).detach()
    of_moved, of_weights = torch.autograd.functional.jacobian(phi, (moved.flatten(), weights))
    pushed, direct = torch.autograd.functional.jacobian(
        lambda flat, w: outer(at(w), flat.view(1, 1, 4, 4)), (moved.flatten(), weights)
    )
    vector = torch.zeros_like(pushed)
    for _ in range(iterations):
        vector = of_moved.T @ vector + pushed
    torch.testing.assert_close(found, direct + of_weights.T @ vector, rtol=1e-8, atol=1e-11)


def test_the_universal_perturbation_climbs_away_from_the_networks_own_answers() -> None:
    module, network = i_bau(decay=0.001), smooth().eval()
    module.network.eval()
    module.draw = generator(0, "step")
    expected = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    for pixels, _ in OTHERS:
        expected.requires_grad_()
        answers = network(pixels).argmax(1)
        loss = -functional.cross_entropy(network(pixels + 0.25 * expected), answers) + 0.001 * expected.norm() ** 2
        slope = torch.autograd.grad(loss, expected)[0].nan_to_num()  # the norm has none at 0
        expected = (expected - 10.0 * slope).detach()
    torch.testing.assert_close(module.universal(OTHERS), expected)
    assert float(expected.norm()) > 0


def test_all_weights_get_a_gradient_under_autocast() -> None:
    """Weights that a pass without gradients has cast must not serve the passes that need them."""
    module = i_bau().float()
    module.begin((pixels.float(), labels) for pixels, labels in OTHERS)
    module.draw = generator(0, "step")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module.losses(CrossEntropy(), (BATCH[0].float(), BATCH[1]))[0].mean().backward()
    assert [name for name, weight in module.network.named_parameters() if weight.grad is None] == []


def test_rounds_take_their_batches_and_a_share_of_the_images_is_perturbed() -> None:
    module, asked = i_bau(round=2, share=0.3), []
    module.begin(iter(OTHERS))
    real = module.universal
    module.universal = lambda batches: asked.append(len(batches)) or real(batches)  # type: ignore[method-assign]
    for _ in range(3):
        of_a_step(module)
    assert asked == [2, 2]
    for count, some in ((12, 3), (2, 1)):
        rows = module._some(count)
        assert rows.shape == (count, 1, 1, 1)
        assert sorted(rows.flatten().tolist()) == [0.0] * (count - some) + [1.0] * some
    assert not torch.equal(torch.cat([module._some(12) for _ in range(3)]), module._some(12).repeat(3, 1, 1, 1))
    assert not module.network.training


def test_i_bau_leaves_the_statistics_and_moves_all_weights(tmp_path: Path) -> None:
    before = Normalized(net(1), [0.4], [0.25])
    module = IBauModule(2, 10.0, 0.001, 0.1, 5, 0.01, 0.1, network=copies.deepcopy(before), **recipe())
    train(module, tmp_path, steps=3)
    found, given_state = copy(module.scored), copy(before)
    same = {name for name in found if torch.equal(found[name], given_state[name])}
    assert same == {f"network.{name}" for name, _ in net(1).named_buffers()}


def test_i_bau_that_makes_no_sense_is_refused() -> None:
    for change in ({"round": 0}, {"iterations": 0}, {"share": 0.0}, {"share": 1.1}, {"step": -0.1}, {"times": 0.0}):
        with pytest.raises(InputError, match="repair=i_bau"):
            i_bau(**change)


@pytest.mark.slow
def test_all_of_them_repair_digits_from_the_command_line(tmp_path: Path) -> None:
    """Two networks, one rule: the sweep ends in one table with a row for each method."""
    methods = "rebn,average,swap,clp,ft_sam,fst,anp,nad,i_bau"
    words = ["dataset=digits", "debug=default", "architecture=small_vgg", "architecture.width=4", "ends=backdoored"]
    words += ["backdoor=badnets", "backdoor.size=2", "logger=none", "runtime.threads=1", "repair.budget.steps=4"]
    words += ["repair.budget.rates=[0.02]", "card.reactivation.images=0", f"repair={methods}"]
    done = mcr("repair", "-m", *words, folder=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    rows = (sweep / "repairs.csv").read_text().splitlines()
    assert len(rows) == 1 + len(methods.split(","))
    for method in methods.split(","):
        assert re.search(rf"^{method} +\d+ +1 ", done.stdout, flags=re.M), done.stdout
