"""Signals without the trigger: laws, slow twins in float64 written from the equations, and planted backdoors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcr.app.composition import conf_folder
from mcr.architectures.small_cnn import SmallCnn
from mcr.backdoors.backdoor import Backdoor
from mcr.backdoors.badnets import BadNets
from mcr.backdoors.blended import Blended
from mcr.datasets.batches import EvaluationBatches
from mcr.datasets.digits import Digits
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.signals import surrogates
from mcr.signals.estimate import contrast, s_hat
from mcr.signals.gap import Gap
from mcr.signals.masks import Masks
from mcr.signals.noise_gap import NoiseGap
from mcr.signals.perturbations import Perturbations
from mcr.signals.shared_masks import SharedMasks
from mcr.signals.shared_perturbations import SharedPerturbations
from mcr.signals.signal import Signal
from mcr.signals.square_gap import SquareGap
from mcr.store import build

SHIPPED: dict[str, Signal] = {
    path.stem: build.build(yaml.safe_load(path.read_text()))
    for path in sorted((conf_folder() / "signal").glob("*.yaml"))
}
SMALL: dict[str, Signal] = {
    "shared_masks": SharedMasks(fitted=4, tried=7, steps=3, lr=0.3, weight=0.1),
    "shared_perturbations": SharedPerturbations(fitted=4, tried=7, radius=0.3, steps=3, step=0.2),
    "noise_gap": NoiseGap(copies=2, deviation=0.3),
    "square_gap": SquareGap(copies=3, smallest=0.13, largest=0.5),
}
SHAPES = [(1, 8, 8), (3, 6, 10)]
every_signal = pytest.mark.parametrize("kind", SMALL)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


class Wide(nn.Module):
    """Computes in float64 whatever it is shown, so that a twin in float64 differs by the rounding of images alone."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten()),
            nn.Linear(4 * shape[1] * shape[2], classes),
        )
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen = max(self.seen, len(images))
        found: Tensor = self.layers(images.double())
        return found


def net(seed: int, shape: Sequence[int] = SHAPES[0], classes: int = 3) -> Wide:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Wide(shape, classes)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 1.5)
        return network.double().eval()


def images_of(
    count: int = 11, shape: Sequence[int] = SHAPES[0], classes: int = 3, batch_size: int = 5
) -> EvaluationBatches:
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator(0, "pixels"))
    return EvaluationBatches(pixels, torch.arange(count) % classes, batch_size, "contiguous")


def unit(images: EvaluationBatches) -> Tensor:
    return images.images.double() / 255


class Constant(nn.Module):
    """Answers everything with one class."""

    def __init__(self, answer: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", 9 * torch.eye(classes)[answer])

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


# Laws of every signal


@every_signal
@every_shape
@pytest.mark.parametrize("suspects", [1, 2, 3])
def test_a_question_gives_float64_values_of_images_and_the_seed_decides(kind: str, shape, suspects: int) -> None:
    networks, images = [net(seed, shape) for seed in range(suspects)], images_of(shape=shape)
    images = EvaluationBatches(images.images, images.labels, 5, "channels_last")
    ask, again, other = (SMALL[kind].against(networks, images, generator(seed)) for seed in (0, 0, 1))
    found = ask(net(7, shape))
    assert found.dtype == torch.float64
    assert found.dim() == 1
    assert 1 <= len(found) <= 11
    assert bool(found.isfinite().all())
    assert torch.equal(found, again(net(7, shape)))
    assert torch.equal(found, ask(net(7, shape)))  # asking draws nothing
    if isinstance(SMALL[kind], Gap):
        assert not torch.equal(found, other(net(7, shape)))


@every_signal
@pytest.mark.parametrize("context", [nullcontext, torch.no_grad, torch.inference_mode])
def test_suspects_and_global_draws_are_left_as_they_are(kind: str, context) -> None:
    networks = [net(0), net(1).train()]
    networks[0].layers[0].weight.requires_grad_(False)
    before = [
        ({key: tensor.clone() for key, tensor in network.state_dict().items()}, *flags(network)) for network in networks
    ]
    state = torch.random.get_rng_state()
    with context():
        value = SMALL[kind].against(networks, images_of(), generator(0))(net(7))
    assert torch.equal(value, SMALL[kind].against(networks, images_of(), generator(0))(net(7)))
    assert torch.equal(state, torch.random.get_rng_state())
    for network, (tensors, modes, learning) in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in tensors.items())
        assert flags(network) == (modes, learning)
        assert all(parameter.grad is None for parameter in network.parameters())


def flags(network: nn.Module) -> tuple[list[bool], list[bool]]:
    return [part.training for part in network.modules()], [part.requires_grad for part in network.parameters()]


@every_signal
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_how_many_images_make_a_pass_changes_nothing(kind: str, batch_size: int) -> None:
    networks = [net(0, classes=20), net(1, classes=20)]
    usual, other = (images_of(classes=20, batch_size=size) for size in (5, batch_size))
    values = [SMALL[kind].against(networks, images, generator(0))(net(7, classes=20)) for images in (usual, other)]
    assert torch.allclose(values[0], values[1], atol=1e-6)
    assert max(network.seen for network in networks) <= max(5, batch_size)


@pytest.mark.parametrize("kind", ["shared_masks", "shared_perturbations"])
def test_memory_does_not_grow_with_the_classes(kind: str) -> None:
    suspect, candidate = net(0, classes=200), net(1, classes=200)
    images = images_of(10, classes=200, batch_size=12)
    SMALL[kind].against([suspect], images, generator(0))(candidate)
    assert suspect.seen <= 12
    assert candidate.seen <= 12
    pieces = surrogates.pieces(200, images_of(10, batch_size=35))
    assert [c for piece in pieces for c in range(200)[piece]] == list(range(200))
    assert {piece.stop - piece.start for piece in pieces} == {3, 2}
    assert len(surrogates.pieces(200, images)) == 200


def test_images_are_fitted_on_and_tried_on_apart_where_there_are_enough() -> None:
    images = images_of(10)
    pixels = [{tuple(image.flatten().tolist()) for image in part.images} for part in shared(images, 4, 6)]
    assert [len(part) for part in pixels] == [4, 6]
    assert not pixels[0] & pixels[1]
    few = shared(images, 4, 100)
    assert [len(part.images) for part in few] == [4, 10]
    label = {
        tuple(image.flatten().tolist()): int(label) for image, label in zip(images.images, images.labels, strict=True)
    }
    for part in few:
        found = zip(part.images, part.labels, strict=True)
        assert all(label[tuple(image.flatten().tolist())] == int(own) for image, own in found)


def shared(images: EvaluationBatches, fitted: int, tried: int) -> list[EvaluationBatches]:
    return surrogates.shares(images, fitted, tried, generator(0))


@pytest.mark.parametrize("kind", ["shared_masks", "shared_perturbations"])
def test_one_class_alone_tells_nothing_and_two_do(kind: str) -> None:
    images = images_of()
    # Surrogates towards the only class of the images have no image to be fitted on; others have, and are judged.
    value = SMALL[kind].against([net(0)], images.like(images.images, torch.ones_like(images.labels)), generator(0))
    assert value(Constant(1, 3)).max() == 0
    with pytest.raises(InputError, match="clean images show one class alone"):
        surrogates.told(torch.tensor([[False, False]]), torch.tensor([[True, True]]))


BAD = {
    "shared_masks": ({"fitted": 0}, {"tried": 0}, {"steps": -1}, {"lr": 0.0}, {"weight": -0.1}),
    "shared_perturbations": ({"fitted": 0}, {"tried": 0}, {"steps": -1}, {"radius": 0.0}, {"step": 0.0}),
    "noise_gap": ({"copies": 0}, {"deviation": 0.0}),
    "square_gap": ({"copies": 0}, {"smallest": 0.0}, {"smallest": 0.6}, {"largest": 1.1}),
}


@pytest.mark.parametrize(("kind", "change"), [(kind, change) for kind in BAD for change in BAD[kind]], ids=str)
def test_a_setting_out_of_its_range_is_one_line(kind: str, change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))) as caught:
        replace(SMALL[kind], **change)
    assert "\n" not in str(caught.value)


# Masks


def slow_loss(suspects: Sequence[Wide], shown: Sequence[Tensor], c: int) -> Tensor:
    """sum_i mean_x CE(e_i(x'), c), one image after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for suspect, image in product(suspects, shown):
        total = total - suspect(image[None])[0].log_softmax(0)[c] / len(shown)
    return total


def others(images: EvaluationBatches, c: int) -> list[Tensor]:
    return [image for image, label in zip(unit(images), images.labels, strict=True) if int(label) != c]


def slow_masks(signal: SharedMasks, suspects: Sequence[Wide], images: EvaluationBatches, free: Tensor) -> Masks:
    """Adam as Kingma and Ba (2015) have it, class after class."""
    masks, patterns = [], []
    for c, begun in enumerate(free.double()):
        raw = begun.clone()
        first, second = torch.zeros_like(raw), torch.zeros_like(raw)
        for step in range(1, signal.steps + 1):
            leaf = raw.clone().requires_grad_(True)
            m, p = 1 / (1 + (-leaf[0]).exp()), 1 / (1 + (-leaf[1:]).exp())
            loss = slow_loss(suspects, [x * (1 - m) + m * p for x in others(images, c)], c) + signal.weight * m.sum()
            (gradient,) = torch.autograd.grad(loss, leaf)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            raw = raw - signal.lr * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        masks.append(1 / (1 + (-raw[:1]).exp()))
        patterns.append(1 / (1 + (-raw[1:]).exp()))
    return Masks(torch.stack(masks), torch.stack(patterns))


@every_shape
@pytest.mark.parametrize("count", [1, 2])
def test_masks_and_their_success_are_those_of_a_slow_twin(shape, count: int) -> None:
    signal = SharedMasks(fitted=4, tried=7, steps=4, lr=0.3, weight=0.1)
    suspects, images, candidate = [net(seed, shape) for seed in range(count)], images_of(shape=shape), net(7, shape)
    draw = generator(0)
    fitted, tried = surrogates.shares(images, 4, 7, draw)
    free = torch.randn(3, 1 + shape[0], *shape[1:], generator=draw)
    twin = slow_masks(signal, suspects, fitted, free)
    draw = generator(0)
    surrogates.shares(images, 4, 7, draw)
    with surrogates.still(suspects):
        found = signal.fit(suspects, fitted, draw)
    assert torch.allclose(found.mask.double(), twin.mask, atol=1e-4)
    assert torch.allclose(found.pattern.double(), twin.pattern, atol=1e-4)
    assert not torch.allclose(found.mask, free[:, :1].sigmoid(), atol=1e-1)  # they were moved
    expected = []
    for image, label in zip(unit(tried), tried.labels.tolist(), strict=True):
        hits = [
            float(candidate((image * (1 - twin.mask[c]) + twin.mask[c] * twin.pattern[c])[None])[0].argmax() == c)
            for c in range(3)
            if c != label
        ]
        expected.append(sum(hits) / len(hits))
    values = signal.against(suspects, images, generator(0))(candidate)
    assert values.tolist() == pytest.approx(expected)


def test_masks_that_cost_more_are_smaller() -> None:
    signal, images = SharedMasks(fitted=6, tried=5, steps=30, lr=0.3, weight=0.0), images_of()
    with surrogates.still([net(0)]) as count:
        assert count == 1
        sums = [float(replace(signal, weight=w).fit([net(0)], images, generator(0)).mask.sum()) for w in (0, 0.1, 9)]
    assert sums[0] > sums[1] > sums[2]


def test_the_success_of_masks_leaves_out_the_class_of_the_image() -> None:
    signal, images = SMALL["shared_masks"], images_of()
    _, tried = surrogates.shares(images, 4, 7, generator(0))
    values = signal.against([net(0)], images, generator(0))(Constant(1, 3))
    assert values.tolist() == [0.0 if label == 1 else 0.5 for label in tried.labels.tolist()]


# Perturbations


def slow_perturbations(
    signal: SharedPerturbations, suspects: Sequence[Wide], images: EvaluationBatches, begun: Tensor
) -> Perturbations:
    radius = signal.radius * sum(math.sqrt(float((image**2).sum())) for image in unit(images)) / len(images.images)
    found = []
    for c, direction in enumerate(begun.double()):
        delta = torch.zeros_like(direction)
        gradient = direction
        for step in range(signal.steps + 1):
            if step:
                leaf = delta.clone().requires_grad_(True)
                loss = slow_loss(suspects, [(x + leaf).clamp(0, 1) for x in others(images, c)], c)
                (gradient,) = torch.autograd.grad(loss, leaf)
            delta = delta - signal.step * radius * gradient / math.sqrt(float((gradient**2).sum()))
            length = math.sqrt(float((delta**2).sum()))
            delta = delta * min(1.0, radius / length)
        found.append(delta)
    return Perturbations(torch.stack(found), radius)


@every_shape
@pytest.mark.parametrize("radius", [0.01, 0.03, 0.3])
@pytest.mark.parametrize("count", [1, 2])
def test_perturbations_and_their_success_are_those_of_a_slow_twin(shape, count: int, radius: float) -> None:
    signal = SharedPerturbations(fitted=4, tried=7, radius=radius, steps=6, step=0.4)
    suspects, images, candidate = [net(seed, shape) for seed in range(count)], images_of(shape=shape), net(7, shape)
    draw = generator(0)
    fitted, tried = surrogates.shares(images, 4, 7, draw)
    twin = slow_perturbations(signal, suspects, fitted, torch.randn(3, *shape, generator=draw))
    draw = generator(0)
    surrogates.shares(images, 4, 7, draw)
    with surrogates.still(suspects):
        found = signal.fit(suspects, fitted, draw)
    assert found.radius == pytest.approx(twin.radius)
    assert torch.allclose(found.delta.double(), twin.delta, atol=1e-4)
    assert float(found.delta.flatten(1).norm(dim=1).max()) <= twin.radius * (1 + 1e-6)

    def success(network: nn.Module, c: int) -> tuple[float, float]:
        shown = [(x + twin.delta[c]).clamp(0, 1)[None] for x in others(tried, c)]
        answers = [network(x)[0].softmax(0).detach() for x in shown]
        hits, sure = [float(a.argmax() == c) for a in answers], [float(a[c]) for a in answers]
        return sum(hits) / len(hits), sum(sure) / len(sure)

    least = []
    for c in range(3):
        pairs = [success(suspect, c) for suspect in suspects]
        least.append((min(hits for hits, _ in pairs), min(sure for _, sure in pairs)))
    best = max(range(3), key=lambda c: least[c])
    values = signal.against(suspects, images, generator(0))(candidate)
    assert len(values) == len(others(tried, best))
    assert float(values.mean()) == pytest.approx(success(candidate, best)[0])
    # The class follows from the suspects alone: whoever answers with it always is as bad as can be.
    totals = [float(signal.against(suspects, images, generator(0))(Constant(c, 3)).mean()) for c in range(3)]
    assert totals == [float(c == best) for c in range(3)]


# Gaps


def slow_divergence(first: Tensor, second: Tensor) -> float:
    total = 0.0
    for p, q in zip(first.tolist(), second.tolist(), strict=True):
        mean = (p + q) / 2
        total += sum(part * math.log(part / mean) / 2 for part in (p, q) if part > 0)
    return total


@every_shape
@pytest.mark.parametrize("kind", ["noise_gap", "square_gap"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_gaps_are_those_of_a_slow_twin(shape, kind: str, count: int) -> None:
    signal, images, candidate = SMALL[kind], images_of(shape=shape), net(7, shape)
    assert isinstance(signal, Gap)
    suspects = [net(seed, shape) for seed in range(count)]
    copies = signal.disturbed(unit(images).float().repeat_interleave(signal.copies, 0), generator(0)).double()
    gaps = []
    for suspect in suspects:
        values = []
        for number, image in enumerate(unit(images)):
            own = copies[number * signal.copies : (number + 1) * signal.copies]
            found = [
                slow_divergence(suspect(x[None])[0].softmax(0), candidate(x[None])[0].softmax(0)) for x in (image, *own)
            ]
            values.append(sum(found[1:]) / signal.copies - found[0])
        gaps.append(values)
    nearest = min(gaps, key=sum)
    found = signal.against(suspects, images, generator(0))(candidate)
    assert found.tolist() == pytest.approx([-value for value in nearest], abs=1e-6)


@pytest.mark.parametrize("kind", ["noise_gap", "square_gap"])
def test_a_suspect_itself_has_no_gap(kind: str) -> None:
    assert float(SMALL[kind].against([net(0)], images_of(), generator(0))(net(0)).abs().max()) < 1e-9
    with_others = SMALL[kind].against([net(1), net(0), net(2)], images_of(), generator(0))
    # Another suspect may be nearer off the images than on them, none counts as farther than the suspect itself.
    assert float(with_others(net(0)).mean()) > -1e-9


def test_noise_has_its_deviation_and_stays_in_the_unit_interval() -> None:
    grey = torch.full((50, 3, 8, 8), 0.5)
    noise = NoiseGap(copies=1, deviation=0.05).disturbed(grey, generator(0)) - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(noise.mean())) < 0.002
    wild = NoiseGap(copies=1, deviation=5.0).disturbed(grey, generator(0))
    assert (float(wild.min()), float(wild.max())) == (0.0, 1.0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 12, 30)], ids=str)
def test_a_square_is_a_square_inside_the_image_of_one_colour_or_of_noise(shape) -> None:
    images = torch.full((400, *shape), 2.0)  # no pixel of a square has this value
    shown = SquareGap(copies=1, smallest=0.13, largest=0.26).disturbed(images, generator(0))
    sides, plain, corners = set(), 0, set()
    for image in shown:
        changed = (image != 2.0).any(0)
        assert torch.equal(changed, (image != 2.0).all(0))
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        square = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert square.shape[1] == square.shape[2]
        assert int(changed.sum()) == square.shape[1] ** 2
        assert 0 <= float(square.min()) <= float(square.max()) <= 1
        sides.add(square.shape[1])
        corners.add((int(rows[0]), int(columns[0])))
        plain += bool((square == square[:, :1, :1]).all())
    shorter = min(shape[1:])
    assert sides == set(range(math.ceil(0.13 * shorter), math.ceil(0.26 * shorter) + 1))
    assert 150 < plain < 250
    # The first and the last place where the smallest one fits.
    assert (min(corner[0] for corner in corners), min(corner[1] for corner in corners)) == (0, 0)
    assert max(corner[0] for corner in corners) == shape[1] - min(sides)
    assert max(corner[1] for corner in corners) == shape[2] - min(sides)


# What the signals say together

values = st.dictionaries(st.sampled_from("abcd"), st.tuples(*[st.floats(-2, 2)] * 3), min_size=1)


@given(values, st.floats(1e-3, 1))
def test_the_estimate_is_the_mean_of_clipped_shares(found: dict[str, tuple[float, float, float]], least: float) -> None:
    candidate, scratch, suspect = ({name: three[index] for name, three in found.items()} for index in range(3))
    shares = []
    for f, low, high in found.values():
        if high - low > least:
            share = (f - low) / (high - low)
            shares.append(0 if share < 0 else 1 if share > 1 else share)
    estimate = s_hat(candidate, scratch, suspect, least)
    if not shares:
        assert math.isnan(estimate)
        return
    assert estimate == pytest.approx(sum(shares) / len(shares))
    assert s_hat(suspect, scratch, suspect, least) == pytest.approx(1)
    assert s_hat(scratch, scratch, suspect, least) == 0
    # A network whose outputs are no numbers clears nobody.
    broken = s_hat({**scratch, next(iter(scratch)): float("nan")}, scratch, suspect, least)
    telling = [name for name in scratch if suspect[name] - scratch[name] > least]
    assert broken == pytest.approx(1 / len(telling) if next(iter(scratch)) in telling else 0)
    assert contrast(suspect, scratch) == {name: high - low for name, (_, low, high) in found.items()}


def test_the_estimate_refuses_other_signals_and_no_scale() -> None:
    with pytest.raises(InputError, match=r"must be the same: \['a'\] and \['b'\]"):
        s_hat({"a": 1.0}, {"b": 0.0}, {"b": 1.0}, 0.1)
    with pytest.raises(InputError, match="least_contrast=0 of a signal must be above 0"):
        s_hat({"a": 1.0}, {"a": 0.0}, {"a": 1.0}, 0)


# Planted backdoors


@cache
def digits() -> tuple[Tensor, Tensor]:
    whole = Digits().load().parts["all"]
    order = torch.randperm(len(whole.images), generator=generator(0, "split"))
    return whole.images[order], whole.labels[order]


def trained(images: Tensor, labels: Tensor, seed: int, steps: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallCnn(8, 32, 10, 1, (8, 8))
        sgd = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        for _ in range(steps):
            chosen = torch.randint(len(images), (64,))
            sgd.zero_grad()
            nn.functional.cross_entropy(network(images[chosen] / 255), labels[chosen]).backward()
            sgd.step()
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "trigger",
    [BadNets(target=1, size=2, row=-3, column=-3, colour=1.0), Blended(target=1, strength=0.2, seed=0)],
    ids=["badnets", "blended"],
)
def test_a_planted_backdoor_is_told_from_a_network_from_scratch(trigger: Backdoor) -> None:
    images, labels = digits()
    poisoned, aims = images[:800].clone(), labels[:800].clone()
    poisoned[:80], aims[:80] = trigger.stamp(poisoned[:80]), 1
    clean, rest = slice(800, 900), slice(1000, 1700)
    suspects = [trained(poisoned, aims, seed, 300) for seed in (0, 1)]
    scratch, sibling = trained(images[clean], labels[clean], 2, 200), trained(poisoned, aims, 3, 300)
    stamped = trigger.stamp(images[rest][labels[rest] != 1]) / 255
    assert float((sibling(stamped).argmax(1) == 1).double().mean()) > 0.8
    data = EvaluationBatches(images[clean], labels[clean], 128, "contiguous")
    names = ("suspect", "sibling", "scratch", "fresh")
    networks = (suspects[0], sibling, scratch, trained(images[clean], labels[clean], 4, 200))
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for kind, signal in SHIPPED.items():
        for among in (suspects, suspects[:1]):
            ask = signal.against(among, data, generator(0, kind))
            for name, network in zip(names, networks, strict=True):
                found[name][kind + str(len(among))] = float(ask(network).mean())
    assert all(value > 0 for value in contrast(found["suspect"], found["scratch"]).values()), found
    shares = {name: s_hat(found[name], found["scratch"], found["suspect"], 0.01) for name in names}
    assert shares["suspect"] == pytest.approx(1)
    assert shares["scratch"] == 0
    # A third network with the backdoor, to which no surrogate was fitted, and a second one without. Gaps cannot tell:
    # they ask what is left of the suspects' own answers, and the third one's are as far from them as any.
    for kind in ("shared_masks2", "shared_perturbations2"):
        assert found["sibling"][kind] > found["fresh"][kind] + 0.1, found
