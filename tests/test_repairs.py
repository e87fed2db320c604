"""Candidates of a repair, the divergence between networks, pruning, free ends, and the attempt to reactivate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcr.architectures.normalization import Normalized
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.polychain import Polychain
from mcr.curves.simplex import Simplex
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.repairs.bench import Bench, Walked
from mcr.repairs.held_out import HeldOutScore
from mcr.repairs.noise import Noise
from mcr.repairs.path_point import PathPoint
from mcr.repairs.trained import Trained
from mcr.sampling.uniform import Uniform
from mcr.schedules.cosine import Cosine
from mcr.stages.choose import as_given
from mcr.training.fit import fit
from mcr.training.pruned import PrunedModule
from mcr.training.reactivation import reactivation
from mcr.training.subspace import SubspaceModule
from mcr.weightspace import batchnorm, locus
from mcr.weightspace.filters import weakest
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import Subspace, control_points, inner_points

CLASSES = 3
SHAPE = (1, 4, 4)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_format = pytest.mark.parametrize("memory_format", FORMATS)


class Net(nn.Module):
    """Two convolutions, with and without bias, BatchNorm, dropout, and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.dropout = nn.Conv2d(4, 5, 3, bias=False), nn.Dropout(0.5)
        self.head = nn.Linear(20, CLASSES)
        self.register_buffer("offset", torch.zeros(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.norm(self.first(images)))))
        return self.head(self.dropout(hidden.flatten(1))) + self.offset


class Tied(nn.Module):
    """Two names of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(images.flatten(1))))))


def net(seed: int, kind: type[nn.Module] = Net) -> nn.Module:
    """Random weights, and buffers that look as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind()
        for tensor in network.buffers():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else torch.tensor(7 + seed))
        if isinstance(network, Net):
            for tensor in network.norm.parameters():
                nn.init.normal_(tensor)
    return network


def images(count: int, *role: object) -> Tensor:
    return torch.rand(count, *SHAPE, generator=generator(0, "images", *role))


def calibration() -> Iterator[Tensor]:
    return iter([images(16, "calibration", index) for index in range(2)])


def bench(memory_format: str = "contiguous", curve: Any = None, kind: type[nn.Module] = Net, grid: Any = 5) -> Bench:
    """Two networks; at two rates a path between them with random bends, and a grid of places with BatchNorm."""
    curve = curve or Bezier(3)
    network = net(0, kind).to(memory_format=FORMATS[memory_format])
    layout = Layout.of(network, memory_format)
    ends = {"one": net(1, kind).state_dict(), "two": net(2, kind).state_dict()}
    trained, places = {}, locus.places(curve, grid, "repair.grid")
    for index, rate in enumerate((0.3, 0.01)):
        space = Subspace(network, curve, list(ends.values()), calibration, memory_format, "fp32", [])
        space.set_inner_points(
            [layout.pack(net(10 * (index + 2) + step, kind).state_dict()) for step in range(len(inner_points(curve)))]
        )
        statistics = []
        for u in places:
            space.at(u)
            statistics.append(space.statistics())
        trained[rate] = Walked(space, places, statistics)
    return Bench(network, layout, ends, trained, calibration, "seed")


def copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def refreshed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with BatchNorm estimated over the calibration images, on a network of its own."""
    network = Net()
    network.load_state_dict(state)
    batchnorm.refresh(network, calibration())
    return copy(network)


# How differently two networks answer


def slow_divergence(first: np.ndarray, second: np.ndarray) -> list[float]:
    """The definition, one probability after the other."""
    found = []
    for one, other in zip(first, second, strict=True):
        total = 0.0
        for p, q in zip(one, other, strict=True):
            mean = (p + q) / 2
            total += sum(part * math.log(part / mean) / 2 for part in (p, q) if part > 0)
        found.append(total)
    return found


def logarithms(scale: float, seed: int, zeros: bool = False) -> Tensor:
    logits = scale * torch.randn(50, 7, dtype=torch.float64, generator=generator(seed, "logits", scale))
    if zeros:
        logits[torch.rand(50, 7, generator=generator(seed, "zeros")) < 0.4] = -torch.inf
        logits[:, seed % 7] = 0.0  # so that something is left of every row
    return logits.log_softmax(1)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_divergence_is_its_definition(scale: float, zeros: bool) -> None:
    first, second = logarithms(scale, 1, zeros), logarithms(scale, 2, zeros)
    assert zeros == bool(torch.isinf(first).any())
    found = jensen_shannon(first, second)
    assert found.tolist() == pytest.approx(slow_divergence(first.exp().numpy(), second.exp().numpy()), abs=1e-12)
    assert torch.equal(found, jensen_shannon(second, first))
    assert (found >= 0).all()
    assert (found <= math.log(2) + 1e-12).all()
    assert jensen_shannon(first, first).abs().max() < 1e-14


def test_answers_with_nothing_in_common_are_ln_2_apart() -> None:
    first = torch.tensor([[0.25, 0.75, 0.0, 0.0]], dtype=torch.float64).log()
    assert float(jensen_shannon(first, first.flip(1))) == pytest.approx(math.log(2), abs=1e-15)


def test_log_probabilities_are_those_of_the_evaluation_mode() -> None:
    network, pixels = net(1), images(11, "asked")
    network.train()
    found = log_probabilities(network, EvaluationBatches((pixels * 255).byte(), torch.zeros(11), 4, "contiguous"))
    with torch.no_grad():
        logits = network.eval()((pixels * 255).byte() / 255).double().numpy()
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("better", [0, 1])
def test_a_candidate_is_judged_against_the_better_network_image_by_image(better: int) -> None:
    """What is lost is a paired difference, so its standard error is that of differences over the same images."""
    made, pixels = bench(), (images(40, "judged") * 255).byte()
    answered = []
    for state in (*made.ends.values(), net(3).state_dict()):
        made.network.load_state_dict(state)
        answered.append(made.network.eval()(pixels / 255).detach())
    # Labels that the better network gives to all but each tenth image.
    labels = answered[better].argmax(1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    judge = HeldOutScore.of(made, EvaluationBatches(pixels, labels, 16, "contiguous"))
    right = [(logits.argmax(1) == labels).double().numpy() for logits in answered]
    assert judge.ends == pytest.approx({"one": right[0].mean(), "two": right[1].mean()})
    names = list(judge.ends)
    assert max(judge.ends.values()) == judge.ends[names[better]] == 0.9
    assert judge.ends[names[1 - better]] < 0.9
    made.network.load_state_dict(net(3).state_dict())
    found = judge.score(made.network)
    lost = right[better] - right[2]
    assert found["accuracy"] == pytest.approx(right[2].mean())
    assert found["lost"] == pytest.approx(lost.mean())
    assert found["lost_se"] == pytest.approx(lost.std(ddof=1) / math.sqrt(40))
    first, second, candidate = (logits.double().softmax(1).numpy() for logits in answered)
    assert found["from_one"] == pytest.approx(np.mean(slow_divergence(first, candidate)))
    assert found["from_two"] == pytest.approx(np.mean(slow_divergence(second, candidate)))


# Candidates


REPAIRS = {
    "path_point": PathPoint(5),
    "path_point, listed": PathPoint([0.3, 0.35, 0.9]),
    "noise": Noise("mean", 0.5, 3),
    "noise, start": Noise("start", 0.1, 3),
    "trained": Trained(),
}


def on_the_bench(name: str, memory_format: str = "contiguous") -> Bench:
    found = bench(memory_format, grid=getattr(REPAIRS[name], "grid", 5))
    if name != "trained":
        return found
    trained = {0.3: net(5).state_dict(), 0.01: net(6).state_dict()}
    return replace(found, trained=trained)


@every_format
@pytest.mark.parametrize("name", REPAIRS)
def test_a_candidate_is_rebuilt_bit_for_bit(name: str, memory_format: str) -> None:
    """The chosen network is written long after it was judged; in reverse order, so that no rest of another helps."""
    repair, made = REPAIRS[name], on_the_bench(name, memory_format)
    seen = [(candidate, copy(network)) for candidate, network in repair.candidates(made)]
    for candidate, state in reversed(seen):
        judged = {**candidate, "accuracy": 0.5}  # a choice hands the candidate back with what was found
        assert_same(copy(repair.rebuild(made, judged)), state)
    states = [torch.cat([tensor.flatten() for tensor in state.values()]) for _, state in seen]
    assert all(not torch.equal(one, other) for i, one in enumerate(states) for other in states[:i])
    again = [candidate for candidate, _ in repair.candidates(on_the_bench(name, memory_format))]
    assert again == [candidate for candidate, _ in seen]


@pytest.mark.parametrize("name", REPAIRS)
def test_a_repair_leaves_the_networks_and_what_was_trained_alone(name: str) -> None:
    made, untouched = on_the_bench(name), on_the_bench(name)
    for _, network in REPAIRS[name].candidates(made):
        network.train()
        for tensor in network.parameters():
            tensor.data.add_(1)
    for name_of_end, state in made.ends.items():
        assert_same(state, untouched.ends[name_of_end])
    for rate, trained in made.trained.items():
        if isinstance(trained, Walked):
            other = untouched.trained[rate]
            assert all(torch.equal(a, b) for a, b in zip(trained.space.points, other.space.points, strict=True))
            for one, same in zip(trained.statistics, other.statistics, strict=True):
                assert_same(one, same)
        else:
            assert_same(trained, untouched.trained[rate])


@pytest.mark.parametrize(("grid", "inner"), [(5, [0.25, 0.5, 0.75]), ([0.2, 0, 1], [0.2]), ([0.9, 0.3], [0.3, 0.9])])
def test_every_inner_point_of_every_path_is_a_candidate_and_no_end(grid, inner: list[float]) -> None:
    found = [candidate for candidate, _ in PathPoint(grid).candidates(bench(grid=grid))]
    assert found == [{"rate": rate, "t": t} for rate in (0.3, 0.01) for t in inner]


@pytest.mark.parametrize("grid", [2, 1, [], [0.0, 1.0], [1.5]])
def test_a_grid_without_an_inner_point_is_refused(grid) -> None:
    with pytest.raises(InputError, match=r"repair\.grid"):
        locus.places(Bezier(3), grid, "repair.grid")


def test_numbers_are_those_of_every_coordinate() -> None:
    surface = locus.places(BezierSurface(3), [0.25, 0.5], "repair.grid")
    inside = {(u, v) for u in (0.25, 0.5) for v in (0.25, 0.5)}
    assert {tuple(u.tolist()) for u in surface} == inside | {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)}
    # Of a simplex those whose shares are at most one.
    simplex = locus.places(Simplex(3), [0.25, 0.75], "repair.grid")
    inside = {(0.25, 0.25), (0.25, 0.75), (0.75, 0.25)}
    assert {tuple(u.tolist()) for u in simplex} == inside | {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)}
    with pytest.raises(InputError, match=r"repair\.grid=\[0\.5, 1\.5\]: .* is no place"):
        locus.places(BezierSurface(3), [0.5, 1.5], "repair.grid")
    with pytest.raises(InputError, match="more than 1,000,000 places"):
        locus.places(Simplex(8), [0.01 * k for k in range(10)], "repair.grid")


@every_format
@pytest.mark.parametrize("curve", [Bezier(3), Bezier(4), Polychain(3)], ids=repr)
def test_a_point_on_the_path_is_the_combination_of_the_control_points(curve, memory_format: str) -> None:
    made = bench(memory_format, curve)
    for candidate, network in PathPoint(5).candidates(made):
        coefficients = curve.coefficients(torch.tensor([candidate["t"]], dtype=torch.float64))
        points = [point.double() for point in made.trained[candidate["rate"]].space.points]
        theta = sum(float(c) * p for c, p in zip(coefficients, points, strict=True))
        state = copy(network)
        for name, expected in made.layout.views(theta).items():
            torch.testing.assert_close(state[name].double(), expected, rtol=1e-5, atol=1e-6)
        # Buffers that are no statistics follow the nearer end.
        nearer = made.ends["one" if candidate["t"] <= 0.5 else "two"]
        assert torch.equal(state["offset"], nearer["offset"])
        statistics = refreshed({name: tensor.contiguous() for name, tensor in state.items()})
        for name in ("norm.running_mean", "norm.running_var"):
            torch.testing.assert_close(state[name], statistics[name], rtol=1e-5, atol=1e-6)
            assert not torch.allclose(state[name], nearer[name])


def test_batchnorm_on_the_path_is_refreshed_at_the_very_weights() -> None:
    made = bench(grid=4)
    for _, network in PathPoint(4).candidates(made):
        state = copy(network)
        assert_same(state, refreshed(state))


DRAWS = 400


@pytest.mark.parametrize("center", ["mean", "start"])
def test_noise_follows_the_difference_of_the_networks_weight_by_weight(center: str) -> None:
    """Standardised by the stated centre and deviation, every weight's draws are those of a standard normal."""
    made, scale = bench(), 0.7
    first, second = made.ends["one"], {name: tensor.clone() for name, tensor in made.ends["two"].items()}
    second["head.weight"][0] = first["head.weight"][0]  # here the networks agree
    agreed = made.layout.pack(first) == made.layout.pack(second)
    assert agreed.sum() == 20
    # BatchNorm plays no part here; without calibration images its statistics are not estimated.
    made = replace(made, ends={"one": first, "two": second}, trained={}, calibration=lambda: iter([images(2)]))
    thetas = torch.stack([made.layout.pack(n.state_dict()) for _, n in Noise(center, scale, DRAWS).candidates(made)])
    start, end = (made.layout.pack(state).double() for state in (first, second))
    middle = (start + end) / 2 if center == "mean" else start
    offsets = thetas.double() - middle
    torch.testing.assert_close(offsets[:, agreed], torch.zeros(DRAWS, 20, dtype=torch.float64), rtol=0, atol=1e-7)
    normal = (offsets / (scale * (end - start).abs()))[:, ~agreed]
    assert normal.mean(0).abs().max() < 5 / DRAWS**0.5
    assert (normal.std(0) - 1).abs().max() < 5 / (2 * DRAWS) ** 0.5
    total = normal.numel()
    assert abs(float(normal.mean())) < 5 / total**0.5
    assert abs(float(normal.std()) - 1) < 5 / (2 * total) ** 0.5
    # Independent from weight to weight and from draw to draw.
    for matrix in (normal, normal.T):
        pairs = (matrix[:-1] * matrix[1:]).flatten()
        assert abs(float(pairs.mean())) < 5 / len(pairs) ** 0.5


def test_a_draw_of_noise_depends_on_the_seed_and_its_number_alone() -> None:
    made = bench()
    few = [copy(network) for _, network in Noise("mean", 0.5, 2).candidates(made)]
    many = [copy(network) for _, network in Noise("mean", 0.5, 4).candidates(made)]
    for one, other in zip(few, many, strict=False):
        assert_same(one, other)
    assert [c for c, _ in Noise("mean", 0.5, 4).candidates(made)] == [{"draw": d} for d in range(4)]
    reseeded = replace(made, seed="other seed")
    other = copy(Noise("mean", 0.5, 2).rebuild(reseeded, {"draw": 0}))
    assert not torch.equal(other["head.weight"], few[0]["head.weight"])


def test_batchnorm_of_noise_is_estimated_anew() -> None:
    """At its initial statistics a network is ruined by them alone, whatever its weights."""
    made = bench()
    for _, network in Noise("mean", 0.5, 2).candidates(made):
        state = copy(network)
        assert_same(state, refreshed(state))
        for end in made.ends.values():
            assert not torch.allclose(state["norm.running_mean"], end["norm.running_mean"])
        assert torch.equal(state["offset"], made.ends["one"]["offset"])


def test_noise_reaches_weights_that_are_tied() -> None:
    made = bench(kind=Tied)
    network = Noise("mean", 0.5, 1).rebuild(made, {"draw": 0})
    assert network.first.weight is network.second.weight
    assert not torch.equal(network.first.weight, made.ends["one"]["first.weight"])


def test_a_point_on_the_path_moves_weights_that_are_tied() -> None:
    made = bench(kind=Tied, grid=3)
    network = PathPoint(3).rebuild(made, {"rate": 0.3, "t": 0.5})
    assert network.first.weight is network.second.weight
    middle = torch.tensor([0.5], dtype=torch.float64)
    theta = Bezier(3).coefficients(middle).float() @ torch.stack(made.trained[0.3].space.points)
    torch.testing.assert_close(network.first.weight.detach(), made.layout.views(theta)["first.weight"])


@pytest.mark.parametrize(
    "changes", [{"center": "end"}, {"center": ""}, {"scale": 0.0}, {"scale": -1.0}, {"draws": 0}, {"draws": -3}]
)
def test_noise_that_makes_no_sense_is_refused(changes) -> None:
    with pytest.raises(InputError, match="repair=noise"):
        Noise(**({"center": "mean", "scale": 0.5, "draws": 2} | changes))


def test_what_was_trained_is_taken_as_it_is() -> None:
    made = on_the_bench("trained")
    found = [(candidate, copy(network)) for candidate, network in Trained().candidates(made)]
    assert [candidate for candidate, _ in found] == [{"rate": 0.3}, {"rate": 0.01}]
    for candidate, state in found:
        assert_same(state, dict(made.trained[candidate["rate"]]))


# Training


PIXELS = (255 * images(24, "training")).byte()
LABELS = torch.arange(24) % CLASSES


class Watching(CrossEntropy):
    """The objective, which also keeps a copy of the weights that each step begins with."""

    def __call__(self, network: nn.Module, *batch):
        seen.append({name: tensor.detach().clone() for name, tensor in network.named_parameters()})
        return super().__call__(network, *batch)


seen: list[dict[str, Tensor]] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def recipe(**changes):
    usual = {
        "objective": Watching(),
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
        "schedule": Cosine(0.5),
        "num_classes": CLASSES,
        "seed": "s",
    }
    return usual | changes


def train(module, folder: Path, steps: int = 3, epochs: int = 2) -> None:
    batches = RepeatedBatches(steps, PIXELS, LABELS, 8, Augmentation(0, 0.0), "contiguous", "s")
    runtime = {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
    fitted = fit(
        module,
        batches,
        None,
        folder,
        label="",
        epochs=epochs,
        stop=epochs,
        precision="fp32",
        keep="last",
        patience=0,
        watch={"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05},
        backend="none",
        runtime=runtime,
        loggers=[],
    )
    assert len(fitted.rows) == epochs
    assert not fitted.stopped


def slow_weakest(network: nn.Module, share: float) -> dict[str, set[int]]:
    """By sorting sums in float64."""
    found = {}
    for name in ("first", "second"):
        norms = [float(np.abs(f.detach().double().numpy()).sum()) for f in getattr(network, name).weight]
        found[name] = set(sorted(range(len(norms)), key=norms.__getitem__)[: math.floor(share * len(norms) + 1e-9)])
    return found


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.8, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_the_filters_of_least_norm_go_convolution_by_convolution(share: float, seed: int) -> None:
    network = net(seed)
    found, expected = weakest(network, share), slow_weakest(network, share)
    assert set(found) == {"first.weight", "first.bias", "second.weight"}
    for name, mask in found.items():
        assert set(mask.nonzero().flatten().tolist()) == expected[name.split(".")[0]]
        assert not mask.all()


def test_a_share_that_is_a_whole_number_of_filters_is_that_number() -> None:
    assert weakest(nn.Conv2d(1, 100, 3), 0.29)[".weight"].sum() == 29


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5, math.nan])
def test_a_share_that_leaves_all_or_nothing_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        weakest(net(0), share)


def test_a_network_without_convolutions_has_no_filters() -> None:
    with pytest.raises(InputError, match="has none"):
        PrunedModule(0.5, network=net(0, Tied), **recipe())


def test_pruned_filters_stay_zero_at_every_step_and_all_else_moves(tmp_path: Path) -> None:
    network = net(1)
    network.norm.bias.data.fill_(1.0)  # behind it a ReLU lets gradients through, so pruned filters would come back
    gone, before = weakest(network, 0.5), copy(network)
    module = PrunedModule(0.5, network=network, **recipe())
    train(module, tmp_path)
    states = [*seen, dict(module.scored.named_parameters())]
    assert len(states) == 7
    for state in states:
        for name, mask in gone.items():
            assert (state[name][mask] == 0).all()
    for name, tensor in states[-1].items():
        moved = tensor.detach() != before[name]
        kept = ~gone[name] if name in gone else torch.ones(len(tensor), dtype=torch.bool)
        assert kept.any()
        assert moved[kept].all(), name
    assert set(module.scored.state_dict()) == set(before)


def subspace_module(free: str, points: int, dtype=torch.float32, **changes: Any):
    network = net(0).to(dtype)
    layout = Layout.of(network, "contiguous")
    ends = [layout.pack(net(seed).to(dtype).state_dict()) for seed in (1, 2)]
    curve = Bezier(points)
    common = {"curve": curve, "layout": layout, "points": control_points(curve, ends), "sampler": Uniform()}
    common |= {"places": 1, "weight_decay": 0.0, "network": network}
    return SubspaceModule(**common, free=free, transforms=[], ema_decay=0.0, **recipe(**changes)), ends


@pytest.mark.parametrize("points", [3, 5])
def test_a_path_begins_as_the_straight_line(points: int) -> None:
    module, (start, end) = subspace_module("all", points)
    found = module.points()
    assert len(found) == len(module.fitted) == points
    assert torch.equal(found[0], start)
    assert torch.equal(found[-1], end)
    for index, point in enumerate(found):
        share = index / (points - 1)
        torch.testing.assert_close(point, (1 - share) * start + share * end)


@pytest.mark.parametrize(("free", "moves"), [("inner", [False, True, False]), ("all", [True] * 3)])
def test_only_free_ends_move(free: str, moves: list[bool], tmp_path: Path) -> None:
    module, ends = subspace_module(free, 3)
    before = [point.clone() for point in module.points()]
    given = [end.clone() for end in ends]
    train(module, tmp_path)
    after = module.points()
    assert [not torch.equal(one, other) for one, other in zip(before, after, strict=True)] == moves
    # The networks that the path began between are the caller's.
    assert all(torch.equal(one, other) for one, other in zip(ends, given, strict=True))


# Reactivation


def triggered(network: nn.Module) -> tuple[tuple[Tensor, Tensor], list[tuple[Tensor, Tensor]]]:
    """Images with the label that the network likes least, so that tuning has something to do."""
    pixels = images(30, "triggered").double()
    label = int(network.eval()(pixels).argmax(1).bincount(minlength=CLASSES).argmin())
    few, *watched = [(part, torch.full((len(part),), label)) for part in pixels.split(8)]
    return few, watched


def success(network: nn.Module, watched: list[tuple[Tensor, Tensor]]) -> float:
    hits = [
        int(network(image[None]).argmax() == label) for batch in watched for image, label in zip(*batch, strict=True)
    ]
    return sum(hits) / len(hits)


def test_tuning_on_triggered_images_is_plain_gradient_descent_with_momentum() -> None:
    """Against the same descent written out with autograd.grad, in evaluation mode, in float64."""
    oracle, rate = net(3).double().eval(), 0.05
    few, watched = triggered(oracle)
    expected = {0: success(oracle, watched)}
    speeds = {name: torch.zeros_like(tensor) for name, tensor in oracle.named_parameters()}
    for step in range(1, 6):
        loss = nn.functional.cross_entropy(oracle(few[0]), few[1])
        gradients = torch.autograd.grad(loss, list(oracle.parameters()))
        for (name, tensor), gradient in zip(oracle.named_parameters(), gradients, strict=True):
            speeds[name] = 0.9 * speeds[name] + gradient
            tensor.data -= rate * speeds[name]
        if step in (2, 5):
            expected[step] = success(oracle, watched)
    assert len(set(expected.values())) > 1  # the tuning does something here

    network = net(3).double().train()
    before = copy(network)
    found = reactivation(network, few, watched, [2, 5], rate)
    assert found == pytest.approx(expected)
    for name, tensor in network.named_parameters():
        torch.testing.assert_close(tensor, dict(oracle.named_parameters())[name], rtol=1e-10, atol=1e-12)
        assert not torch.equal(tensor, before[name])
    for name, tensor in network.named_buffers():
        assert torch.equal(tensor, before[name])


def test_reactivation_is_the_same_at_every_call_and_ends_at_its_last_step() -> None:
    few, watched = triggered(net(4).double())
    runs = [net(4).double() for _ in range(3)]
    one, two = (reactivation(network, few, watched, [1, 4], 0.1) for network in runs[:2])
    assert one == two
    assert_same(copy(runs[0]), copy(runs[1]))
    # How often one looks on the way changes nothing.
    often = reactivation(runs[2], few, watched, [1, 2, 3, 4], 0.1)
    assert {step: often[step] for step in one} == one
    assert list(often) == [0, 1, 2, 3, 4]
    assert_same(copy(runs[0]), copy(runs[2]))


@pytest.mark.parametrize(("kind", "fits"), [("float16", False), ("bfloat16", True), ("float32", True)])
def test_a_value_that_the_type_of_the_users_file_cannot_hold_is_refused(kind: str, fits: bool, tmp_path: Path) -> None:
    network = Normalized(nn.Linear(2, 1), [0.0], [1.0])
    with torch.no_grad():
        network.network.weight[0, 1] = 1e6
    names = {"weight": ["w", kind], "bias": ["b", "float32"]}
    (tmp_path / "names.json").write_text(json.dumps(names))
    if fits:
        found = as_given(network, tmp_path)
        assert {name: tensor.dtype for name, tensor in found.items()} == {"w": getattr(torch, kind), "b": torch.float32}
        assert float(found["w"][0, 1]) == pytest.approx(1e6, rel=0.01)
    else:
        with pytest.raises(InputError, match=r"repaired w does not fit into torch\.float16"):
            as_given(network, tmp_path)
