"""One subspace: the network at u is the same whoever asks, and the gradient of its free points is that of autograd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mcr.app import run
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bezier_triangle import BezierTriangle
from mcr.curves.bilinear import Bilinear
from mcr.curves.box import Box
from mcr.curves.linear import Linear
from mcr.curves.polychain import Polychain
from mcr.curves.simplex import Simplex
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import augmented_batches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.plans import pipeline
from mcr.repairs.bench import Bench, Walked
from mcr.repairs.path_point import PathPoint
from mcr.stages import session
from mcr.stages.context import Context
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.transforms.magnitude import Magnitude
from mcr.weightspace.layout import Layout
from mcr.weightspace.locus import coordinates
from mcr.weightspace.subspace import Subspace, blend, control_points, inner_points, shares_of_ends
from tests.conftest import TINY
from tests.gradients import gradients, subspace_module

CLASSES = 3
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_format = pytest.mark.parametrize("memory_format", FORMATS)


@dataclass(frozen=True)
class Outward(Box):
    """A quadratic through both ends and a free point at their middle (Lagrange): some coefficients are negative."""

    ends: ClassVar[int] = 2
    dim: ClassVar[int] = 1

    def coefficients(self, u: Tensor) -> Tensor:
        t = float(u[0])
        return torch.tensor([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)], dtype=torch.float64)

    def initial(self) -> Tensor:
        return torch.tensor([[1, 0], [0.5, 0.5], [0, 1]], dtype=torch.float64)


CURVES = {
    "linear": Linear(),
    "bezier": Bezier(4),
    "polychain": Polychain(3),
    "triangle": BezierTriangle(2),
    "surface": BezierSurface(3),
    "bilinear": Bilinear(),
    "simplex of three": Simplex(3),
    "simplex of five": Simplex(5),
    "outward": Outward(),
}
every_curve = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)


class Net(nn.Module):
    """A convolution, BatchNorm, and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.head = nn.Linear(5, CLASSES)
        self.register_buffer("offset", torch.zeros(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.body(images))).mean((2, 3))) + self.offset


def net(seed: int, dtype: torch.dtype = torch.float32) -> Net:
    """Random weights and buffers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Net().to(dtype)
        for tensor in [*network.norm.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape, dtype=dtype) + 0.5
    return network


PIXELS = torch.randint(0, 256, (37, 2, 6, 6), dtype=torch.uint8, generator=generator(0, "pixels"))


def calibration(memory_format: str = "contiguous", seed: int = 5, batch_size: int = 16) -> Any:
    """Augmented batches of uneven size, anew and the same at each call."""
    return partial(augmented_batches, PIXELS, Augmentation(2, 0.5), batch_size, memory_format, seed)


def subspace(curve: Any, memory_format: str = "contiguous", transforms: Any = (), **changes: Any) -> Subspace:
    """Through networks of different seeds, with random free points."""
    network = net(99).to(memory_format=FORMATS[memory_format])
    ends = [net(seed).state_dict() for seed in range(curve.ends)]
    images = changes.pop("images", calibration(memory_format))
    made = Subspace(network, curve, ends, images, memory_format, "fp32", list(transforms))
    made.set_inner_points([made.layout.pack(net(50 + index).state_dict()) for index in range(len(inner_points(curve)))])
    return made


def somewhere(curve: Any, count: int = 4) -> Iterator[Tensor]:
    draw = generator(3, "places", type(curve).__name__)
    for _ in range(count):
        yield curve.sample(draw)


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(PIXELS / 255).clone()


# theta


@every_curve
@every_format
@pytest.mark.parametrize("transforms", [[], [Magnitude(0.3)]], ids=["plain", "pruned"])
def test_at_a_corner_theta_is_the_end_bit_for_bit(curve: Any, memory_format: str, transforms: Any) -> None:
    space = subspace(curve, memory_format, transforms)
    corners = [u for u in curve.grid(2) if float(shares_of_ends(curve, u).max()) == 1]
    assert len(corners) == curve.ends
    for u in corners:
        index = int(shares_of_ends(curve, u).argmax())
        expected = space.layout.pack(net(index).state_dict())
        for transform in transforms:
            transform.apply_(expected, space.layout)
            assert (expected == 0).sum() >= 0.25 * len(expected)
        assert torch.equal(space.theta(u), expected)


@every_curve
@every_format
def test_theta_is_the_sum_that_the_docstring_says(curve: Any, memory_format: str) -> None:
    space, moved = subspace(curve, memory_format), 0
    ends = [space.layout.pack(net(index).state_dict()).double() for index in range(curve.ends)]
    free = [space.layout.pack(net(50 + index).state_dict()).double() for index in range(len(inner_points(curve)))]
    points = []
    for row in curve.initial().tolist():
        points.append(ends[row.index(1)] if 1 in row else free[moved])
        moved += 1 not in row
    for u in somewhere(curve):
        expected = sum(float(c) * point for c, point in zip(curve.coefficients(u), points, strict=True))
        torch.testing.assert_close(space.theta(u).double(), expected, rtol=1e-5, atol=1e-6)


def test_weights_that_were_given_keep_their_numbers() -> None:
    space = subspace(Bezier(3))
    theta = space.theta(torch.tensor([0.3], dtype=torch.float64))
    before = theta.clone()
    space.end_as_given(0)
    assert torch.equal(theta, before)
    space.at(torch.tensor([0.8], dtype=torch.float64))
    space.end_as_given(1)
    assert torch.equal(theta, before)


def test_negative_coefficients_are_used() -> None:
    space, u = subspace(Outward()), torch.tensor([0.2], dtype=torch.float64)
    assert Outward().coefficients(u)[2] < 0
    first, middle, last = (point.double() for point in space.points)
    expected = 0.48 * first + 0.64 * middle - 0.12 * last
    torch.testing.assert_close(space.theta(u).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_place_outside_the_domain_is_refused() -> None:
    with pytest.raises(InputError, match="no place"):
        subspace(BezierTriangle(2)).theta(torch.tensor([0.7, 0.7], dtype=torch.float64))


def test_another_number_of_networks_is_refused_with_both_numbers() -> None:
    ends = [torch.zeros(3)] * 4
    with pytest.raises(InputError, match="joins 3 networks, 4 are given"):
        list(control_points(BezierTriangle(2), ends))


# Blends of ends


def ends_of(count: int, size: int = 1001) -> list[Tensor]:
    return [torch.randn(size, generator=generator(index, "end")) * 10.0**index for index in range(count)]


@every_curve
def test_control_points_begin_as_the_ends_and_straight_blends_of_them(curve: Any) -> None:
    ends = ends_of(curve.ends)
    for point, row in zip(control_points(curve, ends), curve.initial().tolist(), strict=True):
        if 1 in row:
            assert torch.equal(point, ends[row.index(1)])
        expected = sum(share * end.double() for share, end in zip(row, ends, strict=True))
        torch.testing.assert_close(point.double(), expected, rtol=1e-5, atol=1e-5)


def test_between_two_ends_a_blend_is_torch_s_and_exact_at_both() -> None:
    first, second, third = ends_of(3)
    for share in (0.1, 0.3, 0.5, 1 / 3):
        assert torch.equal(blend([1 - share, share, 0.0], [first, second, third]), torch.lerp(first, second, share))
        assert torch.equal(blend([0.0, 1 - share, share], [first, second, third]), torch.lerp(second, third, share))
    for index, end in enumerate((first, second, third)):
        assert torch.equal(blend([float(index == other) for other in range(3)], [first, second, third]), end)


def test_a_blend_may_lie_outside_its_ends() -> None:
    ends = ends_of(3)
    for shares in ([1.5, -0.5, 0.0], [0.75, -0.5, 0.75], [-1.0, 1.0, 1.0]):
        expected = sum(share * end.double() for share, end in zip(shares, ends, strict=True))
        torch.testing.assert_close(blend(shares, ends).double(), expected, rtol=1e-5, atol=1e-4)


def test_a_blend_leaves_its_ends_alone() -> None:
    ends, before = ends_of(4), [end.clone() for end in ends_of(4)]
    blend([0.25] * 4, ends)
    assert all(torch.equal(one, other) for one, other in zip(ends, before, strict=True))


# The network at a place


@every_curve
@every_format
def test_back_at_a_place_is_the_network_that_was_there(curve: Any, memory_format: str) -> None:
    """With BatchNorm's statistics of then, in any order, and on a network that has been elsewhere since."""
    space = subspace(curve, memory_format)
    seen = [(u, logits(space.at(u)), space.statistics()) for u in somewhere(curve)]
    assert all(
        set(found) == {f"norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
        for *_, found in seen
    )
    other = subspace(curve, memory_format, images=lambda: iter([]))
    for u, before, statistics in reversed(seen):
        assert torch.equal(logits(other.at_with(u, statistics)), before)
        assert torch.equal(logits(space.at(u)), before)
    assert not any(torch.equal(a[1], b[1]) for i, a in enumerate(seen) for b in seen[:i])


def test_statistics_are_copies() -> None:
    space = subspace(Bezier(3))
    space.at(torch.tensor([0.3], dtype=torch.float64))
    kept = space.statistics()
    copied = {name: tensor.clone() for name, tensor in kept.items()}
    space.at(torch.tensor([0.7], dtype=torch.float64))
    assert all(torch.equal(kept[name], copied[name]) for name in kept)
    assert not torch.equal(space.statistics()["norm.running_mean"], kept["norm.running_mean"])


def test_another_calibration_is_another_network() -> None:
    u = torch.tensor([0.3], dtype=torch.float64)
    found = [logits(subspace(Bezier(3), images=images).at(u)) for images in (calibration(), calibration(seed=6))]
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    ("u", "owner"), [((0.2, 0.3), 0), ((0.5, 0.3), 1), ((0.2, 0.7), 2), ((0.4, 0.4), 1), ((1 / 3, 1 / 3), 0)]
)
@pytest.mark.parametrize("curve", [Simplex(3), BezierTriangle(3)], ids=["simplex", "triangle"])
def test_other_buffers_are_those_of_the_end_with_the_largest_share(curve: Any, u: Any, owner: int) -> None:
    """Of equals the first."""
    space = subspace(curve)
    space.at(torch.tensor([0.9, 0.05], dtype=torch.float64))
    found = space.at(torch.tensor(u, dtype=torch.float64)).state_dict()["offset"]
    assert torch.equal(found, net(owner).offset)
    assert not torch.equal(found, net((owner + 1) % 3).offset)


def test_an_end_as_it_was_given_keeps_its_own_statistics() -> None:
    space = subspace(BezierTriangle(2))
    for index in (2, 0, 1):
        space.at(torch.tensor([0.3, 0.3], dtype=torch.float64))
        found = space.end_as_given(index).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in net(index).state_dict().items())


# Whoever asks: a report and a repair

WORDS = (
    *(word for word in TINY if not word.startswith(("architecture", "dataset.image_size"))),
    *("dataset.image_size=16", "architecture=small_vgg", "architecture.width=4", "dataset.split.clean=40"),
    *("dataset.augmentation={padding: 2, flip: 0.5}", "fit.split=clean", "fit.images=30"),
    *(
        "repair.budget.held_out=0.25",
        "evaluation.grid=5",
        "repair=path_point",
        "selection=farthest",
        "repair.grid=5",
        "evaluation.batchnorm_batch=7",
        "selection.margin=1",
    ),
)


@pytest.fixture
def stages(config: Any) -> Any:
    """Label to stage of a report and of a repair with one configuration."""

    def plan(*words: str) -> dict[str, Stage]:
        cfg = config(*WORDS, *words, tiny=False)
        goals = [pipeline.plan(cfg | {"verb": goal}, run.title(cfg))[goal][0] for goal in ("report", "repair")]
        return {stage.label: stage for stage in pipeline.ordered(goals)}

    return plan


def test_a_report_and_a_repair_have_the_same_network_at_a_place(
    make: Any, config: Any, stages: Any, tmp_path: Path
) -> None:
    """With BatchNorm and augmentation: of one fit, places of both are the same networks bit for bit."""
    made = make(*WORDS, tiny=False) | make(*WORDS, tiny=False, goal="repair")
    cfg, planned = config(*WORDS, tiny=False), stages()
    context = Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")
    store = Store(cfg["paths"]["store"])
    fitted = made["connect path"][0]
    answers = {}
    for label in ("place path", "place repair-path_point 0.05"):
        stage = planned[label]
        inputs = {role: store.folder(need) for role, need in stage.needs.items()}
        space = session.subspace(stage.config, inputs, fitted, context)
        answers[label] = [logits_at(space, u) for u in space.curve.grid(5)]
    report, repair = answers.values()
    assert all(torch.equal(one, other) for one, other in zip(report, repair, strict=True))
    assert not torch.equal(report[1], report[2])
    # What the place stage has kept is what a probe and a candidate stand on.
    stage = planned["place path"]
    inputs = {role: store.folder(need) for role, need in stage.needs.items()}
    space = session.subspace(stage.config, inputs, fitted, context)
    places, statistics = session.read_places(made["place path"][0])
    for index in (3, 0, 2):
        assert torch.equal(logits_of(space.at_with(places[index], statistics[index])), report[index])
    # And the repair's candidates are the networks of its own places.
    stage = planned["place repair-path_point 0.05"]
    inputs = {role: store.folder(need) for role, need in stage.needs.items()}
    space = session.subspace(stage.config, inputs, made["repair-path_point 0.05"][0], context)
    expected = [logits_at(space, u) for u in space.curve.grid(5)[1:-1]]
    walked = Walked(space, *session.read_places(made["place repair-path_point 0.05"][0]))
    bench = Bench(space.network, space.layout, {}, {0.05: walked}, lambda: iter([]), "s")
    candidates = [logits_of(network) for _, network in PathPoint(5).candidates(bench)]
    assert len(candidates) == len(expected) == 3
    assert all(torch.equal(one, other) for one, other in zip(candidates, expected, strict=True))


@pytest.mark.parametrize(
    "curve", [BezierSurface(3), BezierTriangle(2), Simplex(4)], ids=["surface", "triangle", "soup"]
)
def test_candidates_of_a_repair_on_any_subspace_say_how_far_from_the_middle_they_lie(curve: Any) -> None:
    space = subspace(curve)
    places = curve.grid(4)
    statistics = []
    for u in places:
        space.at(u)
        statistics.append(space.statistics())
    bench = Bench(space.network, space.layout, {}, {0.1: Walked(space, places, statistics)}, lambda: iter([]), "s")
    names, middle = coordinates(curve.dim), curve.grid(2).mean(0)
    found = [(candidate, logits(network)) for candidate, network in PathPoint(4).candidates(bench)]
    assert len(found) == len(places) - curve.ends
    for candidate, told in found:
        assert set(candidate) == {"rate", "off_centre", *names}
        u = torch.tensor([candidate[name] for name in names], dtype=torch.float64)
        assert candidate["off_centre"] == pytest.approx(float((u - middle).square().sum().sqrt()))
        assert torch.equal(logits(space.at(u)), told)
        assert torch.equal(logits(PathPoint(4).rebuild(bench, candidate)), told)


@pytest.mark.slow
def test_four_tampered_networks_are_repaired_by_a_point_of_a_surface(make: Any) -> None:
    words = [
        "ends=four_backdoored",
        "backdoor.size=2",
        "repair=path_point",
        "repair.grid=3",
        "selection=middle",
        "selection.margin=1.0",
    ]
    made = make(*words, "reference@references.straight=bilinear", goal="repair")
    choice = json.loads((made["choose"][0] / "choice.json").read_text())
    assert len(choice["candidates"]) == 9 - 4
    assert (choice["chosen"]["u"], choice["chosen"]["v"], choice["chosen"]["off_centre"]) == (0.5, 0.5, 0.0)


UNIT = torch.rand(20, 1, 16, 16, generator=generator(0, "unit"))


def logits_of(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(UNIT).clone()


def logits_at(space: Subspace, u: Tensor) -> Tensor:
    return logits_of(space.at(u))


# Fitting


@every_format
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("transforms", [[], [Magnitude(0.4)]], ids=["plain", "pruned"])
@pytest.mark.parametrize("free", ["inner", "all"])
@pytest.mark.parametrize(
    "curve", [BezierSurface(3), BezierTriangle(2), Outward()], ids=["surface", "triangle", "outward"]
)
def test_the_gradient_of_the_free_points_is_that_of_autograd(
    curve: Any, free: str, transforms: Any, decay: float, memory_format: str
) -> None:
    """In float64 against points that are leaves; a transform's derivative is the identity, straight through."""
    network = net(99, torch.float64).to(memory_format=FORMATS[memory_format])
    layout = Layout.of(network, memory_format)
    ends = [layout.pack(net(seed, torch.float64).state_dict()) for seed in range(curve.ends)]
    given = [end.clone() for end in ends]
    places = {"curve": curve, "layout": layout, "ends": ends, "free": free, "transforms": transforms}
    module = subspace_module(**places, weight_decay=decay, network=network, num_classes=CLASSES)
    # Away from the beginning, where free points are blends of the ends.
    away = generator(1, "away")
    for block in module.control:
        block.data += 0.3 * torch.randn(block.shape, dtype=torch.float64, generator=away)
    module.on_train_start()
    module.draw, module.walk = generator(0, "objective"), module.sampler.begin(curve, generator(7, "u"))
    pixels, labels = (PIXELS[:9] / 255).double(), torch.arange(9) % CLASSES
    module.training_step((pixels, labels), 0).backward()

    u = curve.sample(generator(7, "u"))
    leaves = [point.detach().clone().requires_grad_() for point in module.points()]
    theta = sum(c * point for c, point in zip(curve.coefficients(u), leaves, strict=True))
    done = theta.detach().clone()
    for transform in transforms:
        transform.apply_(done, layout)
    assert bool(transforms) == bool((done != theta).any())
    theta = theta + (done - theta).detach()
    oracle = net(99, torch.float64).to(memory_format=FORMATS[memory_format]).train()
    answers = torch.func.functional_call(oracle, layout.views(theta), (pixels,))
    (nn.functional.cross_entropy(answers, labels) + 0.5 * decay * theta.square().sum()).backward()
    fitted = range(len(leaves)) if free == "all" else inner_points(curve)
    assert module.fitted == list(fitted)
    given_gradients = gradients(module)
    assert given_gradients.shape == (len(module.fitted), layout.size)
    for found, index in zip(given_gradients, module.fitted, strict=True):
        expected = leaves[index].grad
        assert (found - expected).norm() <= 1e-10 * expected.norm()
        assert expected.norm() > 0
    assert all(torch.equal(one, other) for one, other in zip(ends, given, strict=True))


def test_with_free_ends_a_surface_begins_through_its_ends() -> None:
    layout = Layout.of(net(0), "contiguous")
    ends = [layout.pack(net(seed).state_dict()) for seed in range(4)]
    common = {"curve": BezierSurface(3), "layout": layout, "ends": ends, "network": net(9), "num_classes": CLASSES}
    modules = [subspace_module(**common, free=free) for free in ("all", "inner")]
    assert [len(module.fitted) for module in modules] == [9, 5]
    for one, other in zip(*(module.points() for module in modules), strict=True):
        assert torch.equal(one, other)
    for index, number in enumerate((0, 2, 6, 8)):
        assert torch.equal(modules[0].points()[number], ends[index])
