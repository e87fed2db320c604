"""Fast forms against straightforward ones: the same numbers, and nothing changed that is not theirs to change."""

from __future__ import annotations

import copy
import csv
import ctypes
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.attacks import ball
from mcr.attacks.fgsm import Fgsm
from mcr.attacks.pgd import Pgd
from mcr.curves.bezier import Bezier
from mcr.curves.polychain import Polychain
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, StampedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.numerics import malloc, shares
from mcr.numerics.seeding import generator
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.objective import Objective
from mcr.plans import pipeline
from mcr.probes import robust_risk
from mcr.sampling.uniform import Uniform
from mcr.stages.context import Context
from mcr.store import identity
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.training import coupled, subspace
from mcr.training.adversarial import AdversarialModule
from mcr.training.averaging import Averaging
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import fit
from mcr.training.subspace import SubspaceModule
from mcr.weightspace import batchnorm, model_at
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt
from mcr.weightspace.subspace import control_points
from tests.gradients import Keeper, gradients
from tests.processes import environment, mcr

IMAGES = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50) % 3


def small(seed: int = 0, width: int = 4) -> nn.Module:
    """A small network with BatchNorm before and after a convolution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(16 * width, 3)),
        )


def pgd(**changes: Any) -> Pgd:
    usual = {"eps": 0.1, "step_size": 0.03, "steps": 3, "norm": "linf", "start": "random", "restarts": 1}
    return Pgd(**(usual | changes))


class Flat:
    def factor(self, progress: float) -> float:
        return 1.0


def endpoint_module(**changes: Any) -> EndpointModule:
    return EndpointModule(**(common() | {"network": small(), "objective": CrossEntropy()} | changes))


def adversarial_module(**changes: Any) -> AdversarialModule:
    usual = {"network": small(), "objective": Adversarial(pgd()), "ema_decay": 0.9, "validation_images": 20}
    return AdversarialModule(**(common() | usual | changes))


def curve_module(objective: Objective, curve: Any = None, double: bool = False, **changes: Any) -> SubspaceModule:
    networks = [network.double() if double else network for network in map(small, (0, 1, 2))]
    layout = Layout.of(networks[0], "contiguous")
    ends = tuple(layout.pack(dict(network.state_dict())) for network in networks[1:])
    curve = curve or Bezier(3)
    usual = {"curve": curve, "layout": layout, "points": control_points(curve, ends), "sampler": Uniform(), "places": 1}
    usual |= {"weight_decay": 1e-2, "ema_decay": 0.9, "free": "inner", "transforms": []}
    return SubspaceModule(**(common() | {"network": networks[0], "objective": objective} | usual | changes))


def common() -> dict[str, Any]:
    return {
        "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        "schedule": Flat(),
        "num_classes": 3,
        "seed": "seed",
    }


def train(module: EndpointModule, batches: Any, begun: Callable[[], None] = lambda: None) -> Iterator[None]:
    """An epoch as Lightning runs it, without Lightning; ``begun`` is called when the first batch is there."""
    optimizer = module.make_optimizer(module.learning())
    module.on_train_start()
    module.on_train_epoch_start()
    iterator = iter(batches)
    batch = next(iterator, None)
    begun()
    while batch is not None:
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        if isinstance(module, SubspaceModule):
            module.update(optimizer)
        else:
            optimizer.step()
        module.on_train_batch_end(None, batch, 0)
        yield
        batch = next(iterator, None)


# ---------------------------------------------------------------------------------- BatchNorm's statistics


def torchs_own(network: nn.Module, batches: list[Tensor]) -> nn.Module:
    """A copy whose statistics are torch's cumulative averages, each batch normalised by its own."""
    oracle = copy.deepcopy(network).eval()
    for layer in batchnorm.layers(oracle):
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for images in batches:
            oracle(images)
    return oracle


def assert_same_statistics(network: nn.Module, oracle: nn.Module, rtol: float = 1e-12) -> None:
    for found, expected in zip(batchnorm.layers(network), batchnorm.layers(oracle), strict=True):
        torch.testing.assert_close(found.running_mean, expected.running_mean, rtol=rtol, atol=rtol)
        torch.testing.assert_close(found.running_var, expected.running_var, rtol=rtol, atol=rtol)
        assert int(found.num_batches_tracked) == int(expected.num_batches_tracked)


def hooks(network: nn.Module) -> int:
    """What stands between a module's call and its class's forward pass."""
    found = ((module._forward_pre_hooks, module._forward_hooks, vars(module)) for module in network.modules())
    return sum(len(before) + len(after) + ("forward" in own) for before, after, own in found)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_statistics_of_a_large_float32_batch_are_those_of_float64(memory_format: torch.memory_format) -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [(torch.randn(256, 16, 32, 32, generator=draw) + 3).to(memory_format=memory_format)]
    layer = nn.BatchNorm2d(16)
    batchnorm.refresh(layer, batches)
    wide = batches[0].double()
    for found, expected in ((layer.running_mean, wide.mean((0, 2, 3))), (layer.running_var, wide.var((0, 2, 3)))):
        assert ((found.double() - expected) / expected).abs().max() < 1e-6


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"momentum": 0.3}])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (16, 5)),
        (nn.BatchNorm1d, (16, 5, 3)),
        (nn.BatchNorm2d, (16, 5, 4, 3)),
        (nn.BatchNorm3d, (6, 5, 2, 3, 4)),
    ],
)
def test_every_kind_of_layer_gets_the_averages_over_batches(kind: Any, shape: tuple[int, ...], options: dict) -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randn(shape, generator=draw, dtype=torch.float64) * k + k for k in (1, 2, 3)]
    network = nn.Sequential(kind(5, **options)).double()
    network(batches[0])  # statistics of another place
    network.eval()
    oracle = torchs_own(network, batches)
    batchnorm.refresh(network, batches)
    others = [dimension for dimension in range(len(shape)) if dimension != 1]
    torch.testing.assert_close(network[0].running_mean, torch.stack([b.mean(others) for b in batches]).mean(0))
    torch.testing.assert_close(network[0].running_var, torch.stack([b.var(others) for b in batches]).mean(0))
    assert_same_statistics(network, oracle)
    assert network[0].momentum == options.get("momentum", 0.1)
    assert not network.training
    assert not network[0].training


class Twice(nn.Module):
    """One layer at two places of a pass, and one that no pass reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.idle = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.between = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.between(self.norm(images)).square())


def test_a_layer_that_is_used_twice_averages_over_all_calls_and_one_never_reached_is_new() -> None:
    torch.manual_seed(0)
    network = Twice().double()
    batches = [torch.rand(8, 3, 4, 4, dtype=torch.float64) * k for k in (1, 2, 5)]
    network.idle(batches[0])
    oracle = torchs_own(network, batches)
    batchnorm.refresh(network, batches)
    assert int(network.norm.num_batches_tracked) == 6
    assert_same_statistics(network, oracle)
    assert torch.equal(network.idle.running_mean, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(network.idle.running_var, torch.ones(3, dtype=torch.float64))
    assert int(network.idle.num_batches_tracked) == 0


def test_each_batch_is_normalised_by_its_own_statistics() -> None:
    """Which the second layer sees: batches of other scales, with dropout between, which stays off."""
    network = small(width=6).double()
    network[2] = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    with torch.no_grad():
        network[1].weight.uniform_(0.5, 2)
        network[1].bias.uniform_(-1, 1)
    batches = [torch.rand(12, 1, 8, 8, dtype=torch.float64) * k + k for k in (1, 7, 0.1)]
    oracle = torchs_own(network, batches)
    batchnorm.refresh(network, batches)
    assert_same_statistics(network, oracle)
    # Normalised by the averages instead, the second layer would see something else.
    with torch.no_grad():
        averaged = [nn.Sequential(*oracle[:4]).eval()(images) for images in batches]
    means = torch.stack([values.mean((0, 2, 3)) for values in averaged]).mean(0)
    assert (means - network[4].running_mean).abs().max() > 1e-2


def test_a_single_value_per_channel_is_refused_and_nothing_is_left_behind() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.BatchNorm1d(12))
    network.train()
    network[1].eval()
    with pytest.raises(ValueError, match=r"single value per channel: \(1, 12\)"):
        batchnorm.refresh(network, [torch.rand(8, 3, 2, 2), torch.rand(1, 3, 2, 2)])
    assert [module.training for module in network.modules()] == [True, True, False, True, True]
    assert hooks(network) == 0


def test_no_hook_is_left_behind() -> None:
    network = small().train()
    batchnorm.refresh(network, [torch.rand(8, 1, 8, 8)])
    assert hooks(network) == 0
    assert all(module.training for module in network.modules())
    found = network[1].running_mean.clone()
    network.eval()(torch.rand(8, 1, 8, 8) + 5)
    assert torch.equal(network[1].running_mean, found)


def test_under_autocast_the_statistics_stay_float32() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    images = torch.rand(64, 3, 12, 12) + 3
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            inputs = network[0](images)
        batchnorm.refresh(network, [images])
    assert inputs.dtype == torch.bfloat16
    layer, wide = network[1], inputs.double()
    assert layer.running_mean.dtype == layer.running_var.dtype == torch.float32
    torch.testing.assert_close(layer.running_mean.double(), wide.mean((0, 2, 3)), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(layer.running_var.double(), wide.var((0, 2, 3)), rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------------------------- batches and augmentation

# Of three channels, and higher than wide: nothing may confuse rows with columns.
PICTURES = torch.randint(0, 256, (50, 3, 9, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def slow_window(image: Tensor, padding: int, top: int, left: int, flip: bool) -> Tensor:
    channels, height, width = image.shape
    canvas = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    canvas[:, padding : padding + height, padding : padding + width] = image
    window = canvas[:, top : top + height, left : left + width]
    return window.flip(-1) if flip else window


def slow_order(loader: TrainingBatches) -> Tensor:
    """One pass over the images after the other, for as many batches as the epoch has."""
    draw, needed = generator(loader.seed, "order", loader.epoch), len(loader) * loader.batch_size
    order = torch.randperm(len(PICTURES), generator=draw)
    while len(order) < needed and isinstance(loader, RepeatedBatches):
        order = torch.cat([order, torch.randperm(len(PICTURES), generator=draw)])
    return order[:needed]


def slow_batches(loader: TrainingBatches, rank: int, world: int, stamped: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batch after batch: draws for all its images in the documented order, then image by image of the process's own."""
    padding, flip = loader.augmentation.padding, loader.augmentation.flip
    draw = generator(loader.seed, "augment", loader.epoch, 0)
    for chosen in slow_order(loader).split(loader.batch_size):
        own = slice(len(chosen) * rank // world, len(chosen) * (rank + 1) // world)
        offsets, flips = torch.zeros(2, len(chosen), dtype=torch.int64), torch.zeros(len(chosen), dtype=torch.bool)
        if padding:
            offsets = torch.randint(0, 2 * padding + 1, (2, len(chosen)), generator=draw)
        if flip:
            flips = torch.rand(len(chosen), generator=draw) < flip
        images = []
        for place, index in list(enumerate(chosen.tolist()))[own]:
            top, left = (int(offset) for offset in offsets[:, place])
            image = slow_window(PICTURES[index], padding, top, left, bool(flips[place])).clone()
            if stamped[index]:
                image[:, -2:, :3] = 255
            images.append(image.float() / 255)
        yield torch.stack(images), LABELS[chosen][own]


def patch(images: Tensor, _: Tensor) -> Tensor:
    images = images.clone()
    images[:, :, -2:, :3] = 255
    return images


STAMPED = torch.arange(50) % 4 == 1


FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def loaders(padding: int, flip: float, memory_format: str) -> dict[str, TrainingBatches]:
    order = (16, Augmentation(padding, flip), memory_format, 3)
    return {
        "training": TrainingBatches(PICTURES, LABELS, *order),
        "stamped": StampedBatches(patch, STAMPED, PICTURES, LABELS, *order),
        "repeated": RepeatedBatches(8, PICTURES, LABELS, *order),
        "few": RepeatedBatches(3, PICTURES, LABELS, 64, *order[1:]),
    }


@pytest.mark.parametrize(("rank", "world", "memory_format"), [(0, 1, "contiguous"), (1, 2, "channels_last")])
@pytest.mark.parametrize(("padding", "flip"), [(2, 0.5), (1, 0.0), (0, 0.5), (0, 0.0), (0, 1.0)])
@pytest.mark.parametrize("kind", ["training", "stamped", "repeated", "few"])
def test_batches_are_those_of_a_slow_form(
    kind: str, padding: int, flip: float, rank: int, world: int, memory_format: str, monkeypatch
) -> None:
    loader = loaders(padding, flip, memory_format)[kind]
    monkeypatch.setattr(shares, "processes", lambda: (rank, world))
    stamped = STAMPED if kind == "stamped" else torch.zeros_like(STAMPED)
    before = PICTURES.clone()
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        found, expected = list(loader), list(slow_batches(loader, rank, world, stamped))
        assert (
            len(found) == len(expected) == len(loader) == {"training": 3, "stamped": 3, "repeated": 8, "few": 3}[kind]
        )
        for (images, labels), (slow_images, slow_labels) in zip(found, expected, strict=True):
            assert images.dtype == torch.float32
            assert images.is_contiguous(memory_format=FORMATS[memory_format])
            assert torch.equal(images, slow_images)
            assert torch.equal(labels, slow_labels)
    assert torch.equal(PICTURES, before)


def test_only_stamped_images_carry_the_trigger() -> None:
    loader = loaders(0, 0.0, "contiguous")["stamped"]
    order = slow_order(loader)
    found = torch.cat([images for images, _ in loader]).mul(255).round().to(torch.uint8)
    assert torch.equal(found[~STAMPED[order]], PICTURES[order][~STAMPED[order]])
    marked = found[STAMPED[order]]
    assert len(marked)
    assert bool((marked[:, :, -2:, :3] == 255).all())
    assert torch.equal(marked[:, :, :-2], PICTURES[order][STAMPED[order]][:, :, :-2])


def test_what_is_switched_off_draws_nothing() -> None:
    draws: dict[tuple[int, float], Callable[[torch.Generator], Any]] = {
        (0, 0.0): lambda draw: None,
        (2, 0.0): lambda draw: torch.randint(0, 5, (2, 7), generator=draw),
        (0, 0.5): lambda draw: torch.rand(7, generator=draw),
        (2, 0.5): lambda draw: (torch.randint(0, 5, (2, 7), generator=draw), torch.rand(7, generator=draw)),
    }
    states = []
    for (padding, flip), explicit in draws.items():
        draw, expected = generator(1), generator(1)
        decisions = Augmentation(padding, flip).draw(7, draw)
        explicit(expected)
        assert torch.equal(draw.get_state(), expected.get_state())
        assert decisions.shape == (3, 7)
        assert bool(decisions[:2].any()) == (padding > 0)
        assert bool(decisions[2].any()) == (flip > 0)
        states.append(draw.get_state())
    assert torch.equal(states[0], generator(1).get_state())


# ---------------------------------------------------------------------------------- attacks

POINTS = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6) % 3


def lengths(delta: Tensor) -> Tensor:
    return torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def explicit_projection(moved: Tensor, center: Tensor, eps: float, norm: str) -> Tensor:
    if norm == "linf":
        return (center + torch.clamp(moved - center, -eps, eps)).clamp(0, 1)
    delta = moved - center
    return (center + delta * torch.clamp(eps / lengths(delta), max=1.0)).clamp(0, 1)


def explicit_start(center: Tensor, eps: float, norm: str, draw: torch.Generator) -> Tensor:
    if norm == "linf":
        return (center + (torch.rand(center.shape, generator=draw) * (2 * eps) - eps)).clamp(0, 1)
    noise, radius = torch.randn(center.shape, generator=draw), torch.rand(len(center), 1, 1, 1, generator=draw)
    return (center + noise / lengths(noise) * eps * radius ** (1 / center[0].numel())).clamp(0, 1)


def explicit_pgd(attack: Pgd, network: nn.Module, images: Tensor, labels: Tensor, draw: torch.Generator) -> Tensor:
    """The last point of the last restart."""
    for _ in range(attack.restarts):
        current = images.clone()
        if attack.start == "random":
            current = explicit_start(images, attack.eps, attack.norm, draw)
        for _ in range(attack.steps):
            leaf = current.detach().requires_grad_(True)
            loss = functional.cross_entropy(network(leaf), labels, reduction="none").sum()
            (gradient,) = torch.autograd.grad(loss, leaf)
            direction = gradient.sign() if attack.norm == "linf" else gradient / lengths(gradient)
            current = explicit_projection(current + attack.step_size * direction, images, attack.eps, attack.norm)
    return current


every_ball = pytest.mark.parametrize(("norm", "eps", "step"), [("linf", 0.1, 0.04), ("l2", 0.8, 0.5)])


@every_ball
@pytest.mark.parametrize(("start", "restarts"), [("zero", 1), ("random", 1), ("random", 2)])
def test_pgd_is_bit_for_bit_the_explicit_formula(norm: str, eps: float, step: float, start: str, restarts: int) -> None:
    attack = pgd(norm=norm, eps=eps, step_size=step, start=start, restarts=restarts)
    network, draw, expected_draw = small().eval(), generator(5), generator(5)
    *_, found = attack.candidates(network, POINTS, TARGETS, draw)
    expected = explicit_pgd(attack, network, POINTS, TARGETS, expected_draw)
    assert torch.equal(found, expected)
    assert not torch.equal(found, POINTS)
    assert torch.equal(draw.get_state(), expected_draw.get_state())


@every_ball
def test_a_step_of_pgd_is_bit_for_bit_the_explicit_formula_and_keeps_its_arguments(norm, eps, step) -> None:
    attack, draw = pgd(norm=norm, eps=eps, step_size=step), generator(2)
    current, gradient = (
        (POINTS + 0.1 * torch.randn(POINTS.shape, generator=draw)).clamp(0, 1),
        torch.randn(POINTS.shape),
    )
    gradient[0] = 0  # has no direction
    given = (current, gradient, POINTS)
    kept = [(tensor.clone(), tensor._version) for tensor in given]
    found = attack._step(current, gradient, POINTS)
    direction = gradient.sign() if norm == "linf" else gradient / lengths(gradient)
    assert torch.equal(found, explicit_projection(current + step * direction, POINTS, eps, norm))
    for tensor, (before, version) in zip(given, kept, strict=True):
        assert torch.equal(tensor, before)
        assert tensor._version == version
        assert found.data_ptr() != tensor.data_ptr()


@every_ball
def test_projection_leaves_its_arguments_untouched(norm: str, eps: float, step: float) -> None:
    images = POINTS + torch.randn(POINTS.shape, generator=generator(3))
    center = POINTS.clone()
    kept, versions = images.clone(), (images._version, center._version)
    found = ball.project(images, center, eps, norm)
    assert torch.equal(found, explicit_projection(kept, POINTS, eps, norm))
    assert torch.equal(images, kept)
    assert torch.equal(center, POINTS)
    assert (images._version, center._version) == versions
    start = ball.random_point(center, eps, norm, generator(4))
    assert torch.equal(start, explicit_start(POINTS, eps, norm, generator(4)))
    assert torch.equal(center, POINTS)


@pytest.mark.parametrize(
    "attack", [pgd(), pgd(norm="l2", eps=0.8), pgd(start="zero"), pgd(restarts=2), Fgsm(0.1, "l2")]
)
def test_attacks_change_nothing_but_their_generator(attack: Any) -> None:
    network, images, labels = small().eval(), POINTS.clone(), TARGETS.clone()
    state, weights = torch.get_rng_state(), copy.deepcopy(network.state_dict())
    before = images._version, labels._version
    attacked = attack(network, images, labels, generator(0))
    attack.unbroken(network, images, labels, generator(0), network, len(images))
    assert (images._version, labels._version) == before
    assert torch.equal(images, POINTS)
    assert torch.equal(labels, TARGETS)
    assert attacked.data_ptr() != images.data_ptr()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "norm",
    [
        "linf",
        "l2",
    ],
)
def test_a_random_point_has_the_type_and_the_memory_format_of_its_images(norm: str) -> None:
    wide = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    last = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    found = [ball.random_point(center, 0.1, norm, generator(0)) for center in (wide, last)]
    assert found[0].dtype == torch.float64
    assert found[1].is_contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------------------------- moving averages


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.95])
def test_averaging_is_the_formula_with_its_warmup_and_copies_counters(decay: float) -> None:
    draw, averaging = torch.Generator().manual_seed(0), Averaging()
    mean, counter = torch.rand(5, generator=draw, dtype=torch.float64), torch.zeros((), dtype=torch.long)
    expected = mean.clone()
    for step in range(30):
        latest = torch.rand(5, generator=draw, dtype=torch.float64)
        averaging.step([mean, counter], [latest, torch.tensor(7 * step)], decay)
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * latest
        torch.testing.assert_close(mean, expected, rtol=1e-13, atol=0)
        assert int(counter) == 7 * step
    assert averaging.count == 30


def test_the_count_of_an_average_survives_a_checkpoint() -> None:
    """Saved and read as every checkpoint is; the next step is that of a training that was never interrupted."""
    batches = TrainingBatches(IMAGES, LABELS, 10, Augmentation(1, 0.5), "contiguous", 0)
    whole = adversarial_module(objective=CrossEntropy())
    steps = train(whole, batches)
    for _ in range(3):
        next(steps)
    stream = io.BytesIO()
    torch.save(whole.state_dict(), stream)
    stream.seek(0)
    resumed = adversarial_module(objective=CrossEntropy())
    resumed.load_state_dict(torch.load(stream, weights_only=True))
    assert resumed.averaging.count == 3
    for module in (whole, resumed):
        with torch.no_grad():
            for parameter in module.network.parameters():
                parameter.add_(0.5)
        module.on_train_batch_end(None, (IMAGES, LABELS), 3)
    assert all(map(torch.equal, whole.averaged.state_dict().values(), resumed.averaged.state_dict().values()))


def test_the_averaged_network_is_an_explicit_loop_s() -> None:
    """Parameters and running statistics are averaged, counters copied, over real steps of training."""
    module = adversarial_module()
    batches = TrainingBatches(IMAGES, LABELS, 8, Augmentation(0, 0.5), "contiguous", 0)
    expected: dict[str, Tensor] = {}
    for step, _ in enumerate(train(module, batches)):
        share = min(0.9, (1 + step) / (10 + step)) if step else 0.0
        for name, value in module.network.state_dict().items():
            latest = value.detach().double()
            expected[name] = share * expected[name] + (1 - share) * latest if step else latest
        for name, value in module.averaged.state_dict().items():
            if name.endswith("num_batches_tracked"):
                assert int(value) == int(module.network.state_dict()[name]) == step + 1
            else:
                torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert module.averaging.count == 6
    assert not any(parameter.requires_grad for parameter in module.averaged.parameters())
    places = {parameter.data_ptr() for parameter in module.network.parameters()}
    assert not places & {parameter.data_ptr() for parameter in module.averaged.parameters()}


# ---------------------------------------------------------------------------------- paths

BATCH = (torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64), torch.arange(12) % 3)
CURVES = {"bezier 3": Bezier(3), "bezier 4": Bezier(4), "bezier 5": Bezier(5), "polychain 4": Polychain(4)}
every_curve = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)


@every_curve
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_free_point_has_its_share_of_the_gradient_and_no_other_vector_is_left(curve, decay, monkeypatch) -> None:
    module = curve_module(CrossEntropy(), curve, double=True, weight_decay=decay)
    module.on_train_start()
    module.on_train_epoch_start()
    for t in (0.37, 0.81):
        u = torch.tensor([t], dtype=torch.float64)
        monkeypatch.setattr(type(curve), "sample", lambda self, draw, u=u: u)
        module.training_step(BATCH, 0).backward()
        theta = module.model.theta.clone()
        gradient = torch.cat([parameter.grad.flatten() for parameter in module.network.parameters()])
        found = gradients(module)
        assert all(parameter.grad is None for parameter in [*module.network.parameters(), *module.control])
        shares = curve.coefficients(u)[1:-1].tolist()
        for share, row in zip(shares, found, strict=True):
            torch.testing.assert_close(row, share * (gradient + decay * theta), rtol=1e-14, atol=1e-16)
        assert len(found) == curve.points - 2


def test_on_a_cpu_the_gradients_of_one_block_are_there_at_a_time(monkeypatch) -> None:
    """And together they are those of all free points at once, to the last bit."""
    found = []
    for block in (subspace.BLOCK, 200):
        monkeypatch.setattr(subspace, "BLOCK", block)
        module = curve_module(CrossEntropy(), Bezier(4))
        module.on_train_start()
        module.on_train_epoch_start()
        module.training_step((BATCH[0].float(), BATCH[1]), 0).backward()
        keeper = Keeper(module.learning())
        module.update(keeper)
        assert len(keeper.together) == -(-module.layout.size // (block // 2))
        assert set(keeper.together) == {1}
        found.append(torch.cat(keeper.seen, 1))
    assert torch.equal(*found)


def test_a_gradient_is_taken_of_what_learns_whether_it_was_reached_or_not() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)).double()
    network[2].requires_grad_(False)
    model = ModelAt(network, Layout.of(network, "contiguous"))
    images = torch.rand(4, 3, dtype=torch.float64)
    network[0](images).sum().backward()
    expected = network[0].weight.grad + 0.1 * network[0].weight.detach()
    views = model.layout.views(model.gradient(0.1, []))
    torch.testing.assert_close(views["0.weight"], expected)
    torch.testing.assert_close(views["1.weight"], 0.1 * network[1].weight.detach())
    assert not views["2.weight"].any()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_theta_is_the_same_sum_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(7, 5)
    layout = Layout.of(network, "contiguous")
    points, coefficients = (
        [torch.randn(layout.size) for _ in range(4)],
        Bezier(4).coefficients(torch.tensor([0.3], dtype=torch.float64)),
    )
    found = []
    for block in (3, 2**19):
        monkeypatch.setattr(model_at, "BLOCK", block)
        model = model_at.ModelAt(network, layout)
        model.place(coefficients, model_at.blocks(points))
        found.append(model.theta)
    assert torch.equal(*found)
    expected = sum(c * point.double() for c, point in zip(coefficients, points, strict=True))
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adamax", "Rprop"])
def test_an_optimizer_that_moves_each_number_by_itself_may_fit_a_path(name) -> None:
    coupled.refuse_coupled(partial(getattr(torch.optim, name), lr=0.05))


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "LBFGS"])
def test_an_optimizer_that_looks_at_whole_tensors_may_not(name) -> None:
    module = curve_module(CrossEntropy(), Bezier(3), optimizer=partial(getattr(torch.optim, name), lr=0.05))
    with pytest.raises(InputError, match=f"{name} does not move every number by itself"):
        module.configure_optimizers()


@every_curve
@pytest.mark.parametrize(("nesterov", "block"), [(False, subspace.BLOCK), (True, 100)])
def test_whole_steps_of_a_path_equal_an_explicit_implementation(curve, nesterov, block, monkeypatch) -> None:
    """functional_call, autograd through the sum over control points, momentum and averages by hand."""
    monkeypatch.setattr(subspace, "BLOCK", block)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=nesterov)
    module = curve_module(CrossEntropy(), curve, double=True, optimizer=optimizer, weight_decay=0.1, ema_decay=0.3)
    free = [point.detach().clone().requires_grad_() for point in module.points()[1:-1]]
    averaged, speeds = [point.detach().clone() for point in free], [torch.zeros_like(point) for point in free]
    batches = [(BATCH[0] * k, BATCH[1].roll(k)) for k in (1, 2, 3)]
    draw, oracle = generator("seed", "t", 0), small().double().train()
    steps = train(module, batches)
    for step, (images, labels) in enumerate(batches):
        next(steps)
        u = torch.rand((), generator=draw, dtype=torch.float64).view(1)
        points = [module.fixed[0], *free, module.fixed[1]]
        theta = sum(share * point for share, point in zip(curve.coefficients(u), points, strict=True))
        logits = torch.func.functional_call(oracle, module.layout.views(theta), (images,))
        loss = functional.cross_entropy(logits, labels) + 0.05 * theta.square().sum()
        gradients = torch.autograd.grad(loss, free)
        decay = min(0.3, (1 + step) / (10 + step))
        with torch.no_grad():
            for point, mean, speed, gradient in zip(free, averaged, speeds, gradients, strict=True):
                speed.mul_(0.9).add_(gradient)
                point -= 0.05 * (gradient + 0.9 * speed if nesterov else speed)
                mean.copy_(decay * mean + (1 - decay) * point)
        found = [*module.points()[1:-1], *module.final_points()[1:-1]]
        for one, expected in zip(found, [*free, *averaged], strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-11)
    assert next(steps, "end") == "end"


# ---------------------------------------------------------------------------------- compiled networks

RUNTIME = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "threads": 1, "compile": "none"}
MODULES: dict[str, Callable[[], EndpointModule]] = {
    "endpoint": endpoint_module,
    "adversarial": adversarial_module,
    "curve": lambda: curve_module(CrossEntropy()),
    "robust curve": lambda: curve_module(Adversarial(pgd(steps=2))),
}


@pytest.fixture
def compiled() -> Iterator[Callable[[], int]]:
    """How many frames torch has compiled in this test."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["frames"]["ok"]
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("kind", MODULES)
def test_a_compiled_network_trains_to_the_same_weights(kind: str, compiled, tmp_path: Path) -> None:
    batches = TrainingBatches(IMAGES, LABELS, 16, Augmentation(1, 0.5), "contiguous", 0)
    watched = EvaluationBatches(IMAGES[:20], LABELS[:20], 10, "contiguous")
    found = []
    for backend in ("none", "aot_eager"):
        module = MODULES[kind]()
        fitted = fit(
            module,
            batches,
            watched if kind != "curve" else None,
            tmp_path / backend,
            label=kind,
            epochs=1,
            precision="fp32",
            keep="last",
            patience=0,
            stop=1,
            watch={"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05},
            backend=backend,
            runtime=RUNTIME,
            loggers=[],
        )
        assert (compiled() > 0) == (backend == "aot_eager")
        state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
        found.append((fitted.rows, state))
    (rows, state), (other_rows, other_state) = found
    assert list(state) == list(other_state)
    for name, value in state.items():
        torch.testing.assert_close(other_state[name], value, rtol=1e-6, atol=1e-6)
    assert other_rows == [pytest.approx(row, rel=1e-5, abs=1e-6) for row in rows]
    # The bias of a convolution before BatchNorm has a gradient of zero, up to rounding.
    pairs = zip(MODULES[kind]().learning(), module.learning(), strict=True)
    assert not any(torch.equal(start, end) for start, end in pairs if start.dim() > 1)


def test_a_compiled_network_that_was_evaluated_is_refreshed_like_any_other(compiled) -> None:
    network, plain = small(), small()
    network.compile(backend="aot_eager")
    for one in (network, plain):
        with torch.no_grad():
            one.eval()(BATCH[0].float())
        batchnorm.refresh(one, [BATCH[0].float() + 1])
    assert compiled() > 0
    assert_same_statistics(network, plain, rtol=1e-6)


class Roundabout(nn.Module):
    """BatchNorm reached in other ways than by calling the layer with one argument."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.norm = way, nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        norm = self.norm
        if self.way == "keyword":
            return norm(input=images)
        if self.way == "forward":
            return norm.forward(images)
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return nn.functional.batch_norm(images, *statistics, norm.training, 0.5)


@pytest.mark.parametrize("way", ["keyword", "forward", "function"])
def test_batchnorm_is_reached_however_the_network_calls_it(way) -> None:
    images = torch.rand(16, 3, 4, 4, dtype=torch.float64) + 2
    network = Roundabout(way).double()
    batchnorm.refresh(network, [images])
    share = 0.5 if way == "function" else 1.0  # the network's own momentum, from mean 0 on
    torch.testing.assert_close(network.norm.running_mean, share * images.mean((0, 2, 3)))
    assert hooks(network) == 0
    assert network.norm.momentum == 0.1


def test_a_compiled_training_has_a_key_of_its_own(request_for) -> None:
    """A compiled network rounds otherwise, and draws its dropout otherwise."""
    plain, other = (
        {s.label: s.key for s in pipeline.plan(request_for(*words).jobs[0].config)["train"]}
        for words in ([], ["runtime.compile=inductor"])
    )
    assert not set(plain.values()) & set(other.values())


def test_a_backend_of_several_devices_is_refused_in_one_line(tmp_path: Path) -> None:
    def check(**changes: Any) -> None:
        Context(RUNTIME | changes, {"kind": "none"}, "tests", tmp_path).check()

    check()
    check(compile="cudagraphs")
    check(compile="inductor")
    check(devices=2, strategy="ddp_spawn")
    with pytest.raises(InputError, match=r"^runtime\.compile needs a single device") as refused:
        check(devices=2, strategy="ddp_spawn", compile="inductor")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("together", [1, 2, 16])
def test_images_of_several_batches_that_are_attacked_together_stand_as_they_do_alone(together, monkeypatch) -> None:
    network, images = small(), torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = network.eval()(images).argmax(1)
    batches = list(zip(images.split(12), labels.split(12), strict=True))
    attack = Pgd(eps=0.05, step_size=0.02, steps=4, norm="linf", start="random", restarts=1)
    draw = generator(1)
    alone = [attack.unbroken(network, *batch, draw, network, 12) for batch in batches]
    monkeypatch.setattr(robust_risk, "TOGETHER", together)
    found = robust_risk.robust_accuracy(network, batches, attack, generator(1), "fp32")
    assert torch.equal(found, torch.cat(alone).float())
    assert 0 < found.sum() < 50


# ---------------------------------------------------------------------------------- keys

TRAINED = {"train start", "train end", "connect path"}


def measuring(plan: dict[str, Stage]) -> set[str]:
    """The stages that stand at places of a subspace, ask there, or tell of it."""
    return {label for label, stage in plan.items() if stage.name in ("place", "measure", "report")}


@pytest.fixture
def stages(config) -> Callable[..., dict[str, dict[str, Stage]]]:
    """Of a tiny job: goal ("report" or "repair") to label to stage."""

    def plan(*words: str) -> dict[str, dict[str, Stage]]:
        goals = pipeline.plan(config(*words), "title")
        return {goal: {stage.label: stage for stage in pipeline.ordered(goals[goal])} for goal in ("report", "repair")}

    return plan


def moved(before: dict[str, Stage], after: dict[str, Stage]) -> set[str]:
    assert list(before) == list(after)
    return {label for label in before if before[label].key != after[label].key}


def test_the_evaluation_s_precision_moves_the_measuring_stages_alone(stages) -> None:
    plain, narrow = stages(), stages("evaluation.precision=bf16")
    assert moved(plain["report"], narrow["report"]) == measuring(plain["report"])
    for stage in narrow["report"].values():
        if stage.name == "place":
            assert stage.config["batchnorm"]["precision"] == "bf16"
    assert not moved(plain["report"], stages("evaluation.precision=fp32")["report"])


def test_a_fused_optimizer_moves_the_trained_stages_alone(stages) -> None:
    plain, fused = stages(), stages("optimizer.fused=true")
    found = moved(plain["report"], fused["report"])
    # A straight line is not trained, but stands on ends that are.
    assert found == TRAINED | {"connect straight"} | measuring(plain["report"])
    for label in TRAINED:
        optimizers = [plan["report"][label].config["recipe"]["optimizer"] for plan in (plain, fused)]
        assert optimizers[1] == {**optimizers[0], "fused": True}
        made = [build(chosen)([nn.Parameter(torch.ones(2))]) for chosen in optimizers]
        assert [bool(one.defaults["fused"]) for one in made] == [False, True]
    assert not moved(plain["report"], stages("optimizer.fused=false")["report"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fused_optimizer_trains_to_the_same_losses(optimizer: str, make) -> None:
    losses = []
    for fused in ("false", "true"):
        words = [f"optimizer={optimizer}", f"optimizer.fused={fused}", "training.epochs=3", "dataset.split.train=64"]
        with (make(*words, goal="train")["train start"][0] / "history.csv").open() as stream:
            losses.append([float(row["train/loss"]) for row in csv.DictReader(stream)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[0][0] - losses[0][-1] > 1e-3


def test_bf16_is_of_the_passes_without_an_attack(make) -> None:
    def means(name: str, probe: str) -> list[float]:
        folder = make(f"evaluation.precision={name}", goal="evaluate")[f"measure {probe}"][0]
        return json.loads((folder / "measure.json").read_text())["means"][f"{probe}_loss"]

    assert means("fp32", "robust") == means("bf16", "robust")  # this network has no BatchNorm
    assert means("bf16", "test") != means("fp32", "test")
    assert means("bf16", "test") == pytest.approx(means("fp32", "test"), rel=0.01)


def test_a_stage_s_key_is_made_once_however_many_ways_lead_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], identity.key

    def counted(tree: Any) -> str:
        calls.append(tree["stage"])
        assert len(calls) < 1000  # there are 2**30 ways
        return real(tree)

    monkeypatch.setattr(identity, "key", counted)
    left = right = Stage("data", 1, {"level": 0})
    for level in range(1, 31):
        needs = {"left": left, "right": right}
        left, right = Stage("left", 1, {"level": level}, needs), Stage("right", 1, {"level": level}, needs)
    top = Stage("top", 1, {}, {"left": left, "right": right})
    found = top.key
    assert (calls.count("left"), calls.count("right"), calls.count("data"), calls.count("top")) == (30, 30, 1, 1)
    assert top.key == found
    assert len(calls) == 62
    # Another recipe has another key, also where it is made from a stage whose key is known.
    changed = replace(top, config={"a": 1})
    assert changed.key != found
    assert replace(top, label="other").key == found


def test_a_kept_key_is_the_straightforward_one(config) -> None:
    def slow(stage: Stage) -> str:
        needs = {role: slow(need) for role, need in stage.needs.items()}
        return identity.key({"stage": stage.name, "version": stage.version, "config": stage.config, "needs": needs})

    (report,) = pipeline.plan(config(), "title")["report"]
    for stage in pipeline.ordered([report]):
        assert stage.key == slow(stage)


# ---------------------------------------------------------------------------------- the command line

HYDRAS_OWN = "from mcr.app import cli, overrides; overrides.register_resolvers(); cli.job()"


def hydras_own(*words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HYDRAS_OWN, *words], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["dataset=cifar10"],
        ["hydra.help.header=Hello", "attack.eps=4/255"],
        ["--config-dir", "mine"],
    ],
    ids=" ".join,
)
def test_help_is_hydra_s_own_text(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "curve").mkdir(parents=True)
    (tmp_path / "mine" / "curve" / "four.yaml").write_text(
        "# Mine.\n_target_: mcr.curves.polychain.Polychain\npoints: 4\n"
    )
    done = mcr("--help", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "attack: apgd_ce, apgd_t, autoattack" in done.stdout
    assert done.stdout == hydras_own("--help", *words, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help", "--multrun"], "--multirun"),
        (["--help", "dataset=cifar11"], "did you mean cifar10"),
        (["train", "--help", "atack=pgd"], "attack"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_with_a_mistake_gives_one_line_and_status_2(words: list[str], expected: str, tmp_path: Path) -> None:
    done = mcr(*words, folder=tmp_path)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("mcr: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["optimizer={lr: abc}"], "is no number"),
        (["++optimizer={bogus: 1}"], "nothing reads optimizer.bogus"),
        (["evaluation={grid: abc}"], "is no whole number"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_values_in_the_shape_of_a_choice_are_checked_as_values(words: list[str], expected: str, request_for) -> None:
    with pytest.raises(InputError, match=expected):
        request_for(*words)


# ---------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (2**40, [(-3, 2**30), (-1, 2**31 - 1)]),
        (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),  # glibc before 2.35
        (0, [(-3, 2**30), (-3, 2**25)]),
    ],
)
def test_memory_is_kept_as_far_as_the_c_library_can(largest, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    """M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h, which take an int and answer 1 or 0."""
    calls = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return int(parameter == -1 or value <= largest)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    malloc.keep_freed_memory()
    assert calls == expected


@pytest.mark.parametrize("error", [OSError("no such library"), TypeError("a name is needed"), None])
def test_where_there_is_no_mallopt_nothing_happens(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def library(name: Any) -> object:
        asked.append(name)
        if error:
            raise error
        return object()

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert malloc.keep_freed_memory() is None
    assert asked == [None]
    Context(RUNTIME, {"kind": "none"}, "tests", Path()).prepare()
    assert asked == [None, None]


# ---------------------------------------------------------------------------------- devices


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:.*[Ss]ynchronization debug mode.*")
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", MODULES)
def test_nothing_in_a_step_waits_for_the_device(kind: str, memory_format: str) -> None:
    module = MODULES[kind]().to("cuda")
    order = (16, Augmentation(1, 0.5), memory_format, 0)
    batches = TrainingBatches(IMAGES.cuda(), LABELS.cuda(), *order)
    begin = [parameter.detach().clone() for parameter in module.learning()]
    try:
        steps = sum(1 for _ in train(module, batches, lambda: torch.cuda.set_sync_debug_mode("error")))
        with pytest.raises(RuntimeError, match="synchroniz"):  # the mode was on
            torch.ones(1, device="cuda").item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == 3
    assert not any(map(torch.equal, begin, module.learning()))
    assert all(bool(parameter.isfinite().all()) for parameter in module.learning())


class Placed(EndpointModule):
    """In an epoch and a process of the test's choice."""

    current_epoch: int = 0
    global_rank: int = 0


def test_every_epoch_draws_its_own_numbers_again_and_again_and_every_process_its_own_dropout() -> None:
    module = Placed(network=small(), objective=CrossEntropy(), **common())
    found = []
    for _ in range(2):
        for module.current_epoch, module.global_rank in ((0, 0), (1, 0), (0, 1), (1, 1)):
            module.on_train_epoch_start()
            found.append((float(torch.rand((), generator=module.draw)), float(torch.rand(()))))
    assert found[:4] == found[4:]
    assert [len(set(drawn)) for drawn in zip(*found, strict=True)] == [2, 4]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_robust_path_is_watched_at_the_points_that_it_yields(ema_decay: float) -> None:
    module = curve_module(Adversarial(pgd()), double=True, ema_decay=ema_decay)
    module.on_train_start()
    for block in module.averaged:
        block.data.add_(0.5)
    module.latest = BATCH[0]
    module.on_validation_epoch_start()
    shares = module.curve.coefficients(torch.tensor([0.5], dtype=torch.float64))
    expected = sum(share * point for share, point in zip(shares.tolist(), module.final_points(), strict=True))
    torch.testing.assert_close(module.model.theta, expected)
    assert torch.equal(module.points()[1], module.final_points()[1]) == (ema_decay == 0)
