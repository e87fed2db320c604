"""The layer-wise start: from one network to another, one stage after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.polychain import Polychain
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.plans.pipeline import plan
from mcr.starts.layerwise import LayerWise, layers, rescale_, variance
from mcr.starts.start import Material
from mcr.types import Batch
from mcr.weightspace import files
from mcr.weightspace.layout import Layout
from mcr.weightspace.least_squares import through

START = LayerWise(stages=3, moves=2, least=2, most=2, enough=0.0, lr=0.05, momentum=0.9)
FEW = replace(START, least=0, most=0)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    parts = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
    return nn.Sequential(*parts, nn.Linear(8, 3)).double()


def batches() -> list[Batch]:
    draw = generator(0, "images")
    return [(torch.rand(16, 1, 6, 6, generator=draw).double(), torch.arange(16) % 3) for _ in range(3)]


def of(module: nn.Module) -> tuple[Layout, Tensor]:
    layout = Layout.of(module, "contiguous")
    return layout, layout.pack(module.state_dict())


def walk(start: LayerWise, first: int = 1, second: int = 2) -> tuple[Layout, Tensor, Tensor, list[Tensor]]:
    moved = network(0)
    (layout, a), (_, b) = of(network(first)), of(network(second))
    found = start.waypoints(a, b, layout, moved, batches(), CrossEntropy(), 0)
    return layout, a, b, [point.clone() for point in found]


def test_waypoints_go_from_one_end_to_the_other_exactly_and_their_number_is_known() -> None:
    layout, a, b, points = walk(START)
    assert torch.equal(points[0], a)
    assert torch.equal(points[-1], b)
    assert len(points) == START.count(layout) == 7


def test_each_stage_arrives_and_stays_while_what_lies_behind_it_is_trained() -> None:
    layout, a, b, points = walk(START)
    for stage, (first, last) in enumerate(START.cuts(layout)):
        for index, point in enumerate(points):
            views, ends = list(layout.views(point).values()), [list(layout.views(end).values()) for end in (a, b)]
            if index >= (stage + 1) * START.moves:
                assert all(torch.equal(views[one], ends[1][one]) for one in range(first, last))
            elif 0 < index <= stage * START.moves:
                assert not torch.equal(views[first], ends[0][first])


def test_what_has_not_moved_is_that_of_the_first_end_where_nothing_is_trained() -> None:
    layout, a, _, points = walk(FEW)
    first = FEW.cuts(layout)[1][0]
    for view, start in list(zip(layout.views(points[2]).values(), layout.views(a).values(), strict=True))[first:]:
        torch.testing.assert_close(view, start, rtol=1e-12, atol=1e-12)


def test_between_two_equal_ends_nothing_moves() -> None:
    _, a, _, points = walk(START, 1, 1)
    assert all(torch.equal(point, a) for point in points)


def test_the_same_seed_gives_the_same_waypoints() -> None:
    for one, other in zip(walk(START)[3], walk(START)[3], strict=True):
        assert torch.equal(one, other)


def test_weights_on_the_way_have_the_blend_of_the_variances_of_the_ends() -> None:
    layout, a, b, points = walk(FEW)
    one, other, half = (layout.views(theta)["0.weight"] for theta in (a, b, points[1]))
    assert variance(half) == pytest.approx((variance(one) + variance(other)) / 2, rel=1e-12)
    assert variance(torch.lerp(one, other, 0.5)) < 0.8 * variance(half)


def test_trained_weights_keep_the_variance_of_the_first_end() -> None:
    layout, a, _, points = walk(START)
    for name in ("4.weight", "6.weight"):
        start, trained = (layout.views(theta)[name] for theta in (a, points[2]))
        assert not torch.equal(start, trained)
        assert variance(trained) == pytest.approx(variance(start), rel=1e-12)


def test_training_after_a_move_ends_where_the_loss_is_low_enough() -> None:
    def steps(enough: float) -> int:
        seen = []

        def counted() -> Iterator[Batch]:
            for batch in batches():
                seen.append(batch)
                yield batch

        class Counted:
            def __iter__(self) -> Iterator[Batch]:
                return counted()

        (layout, a), (_, b) = of(network(1)), of(network(2))
        start = replace(START, least=2, most=7, enough=enough)
        list(start.waypoints(a, b, layout, network(0), Counted(), CrossEntropy(), 0))
        return len(seen)

    # Two moves of each of three stages, behind the last of which there is nothing to train.
    assert steps(1e9) == 2 * 2 * 2
    assert steps(0.0) == 2 * 2 * 7


def test_an_attack_in_training_sees_the_statistics_of_the_weights_of_that_step() -> None:
    seen = []

    class Attacking(CrossEntropy):
        attacks = True

        def __call__(self, network: nn.Module, images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
            convolution, norm = next(iter(network.children())), list(network.children())[1]
            mean = convolution(images).detach().mean((0, 2, 3))
            torch.testing.assert_close(norm.get_buffer("running_mean"), mean, rtol=1e-9, atol=1e-9)
            seen.append(mean)
            return super().__call__(network, images, *rest)

    (layout, a), (_, b) = of(network(1)), of(network(2))
    list(START.waypoints(a, b, layout, network(0), batches(), Attacking(), 0))
    assert len(seen) == 2 * 2 * 2


def test_rescaling_keeps_the_mean_and_leaves_vectors_and_constants_alone() -> None:
    weight = torch.rand(4, 5, dtype=torch.float64)
    mean = float(weight.mean())
    rescale_(weight, 3.0)
    assert (float(weight.mean()), variance(weight)) == pytest.approx((mean, 3.0), abs=1e-12)
    for kept in (torch.arange(4.0), torch.ones(2, 2)):
        before = kept.clone()
        rescale_(kept, 3.0)
        assert torch.equal(kept, before)


def test_the_network_keeps_its_mode() -> None:
    moved = network(0).eval()
    (layout, a), (_, b) = of(network(1)), of(network(2))
    list(START.waypoints(a, b, layout, moved, batches(), CrossEntropy(), 0))
    assert not any(module.training for module in moved.modules())


def test_a_norm_belongs_to_the_layer_before_it() -> None:
    layout = of(network(0))[0]
    assert [layout.names[index] for index in layers(layout)] == ["0.weight", "4.weight", "6.weight"]
    assert replace(START, stages=9, moves=1).count(layout) == 4  # no more stages than layers


def test_a_polychain_of_as_many_points_is_the_polyline_itself() -> None:
    layout, a, b, points = walk(START)
    found = START.points(Polychain(7), [a, b], [], Material(layout, network(0), batches(), CrossEntropy(), 0))
    for one, other in zip(found, points, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("curve", [Bezier(3), Bezier(5), Polychain(4)])
def test_the_nearest_curve_finds_one_that_goes_through_all_waypoints(curve: Bezier | Polychain) -> None:
    points = torch.rand(curve.points, 6, dtype=torch.float64, generator=generator(0, "points"))
    places = torch.linspace(0, 1, 13, dtype=torch.float64)
    waypoints = [curve.coefficients(place[None]) @ points for place in places]
    found = through(curve, [points[0], points[-1]], waypoints, 13)
    torch.testing.assert_close(torch.stack(found), points, rtol=1e-9, atol=1e-9)


def test_fewer_waypoints_than_free_points_leave_the_others_where_the_curve_begins() -> None:
    ends = [torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)]
    found = through(Polychain(5), ends, [ends[0], torch.tensor([0.0, 1.0]).double(), ends[1]], 3)
    torch.testing.assert_close(torch.stack(found)[:, 0], torch.tensor([0, 0.25, 0, 0.75, 1]).double())


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="moves=0 must be at least 1"):
        replace(START, moves=0)
    with pytest.raises(InputError, match="most=1 must be at least 2"):
        replace(START, most=1)


@pytest.mark.slow
def test_small_moves_with_enough_training_leave_no_barrier_between_two_trained_networks() -> None:
    inputs = torch.randn(256, 8, generator=generator(0, "inputs")).double()
    labels = (inputs[:, :3] * inputs[:, 3:6]).argmax(1)

    def trained(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3)).double()
        optimizer = torch.optim.SGD(module.parameters(), 0.1, 0.9)
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs), labels).backward()
            optimizer.step()
        return module

    moved = trained(1)
    (layout, a), (_, b) = of(moved), of(trained(2))

    @torch.no_grad()
    def worst(points: list[Tensor]) -> float:
        found = []
        for one, other in pairwise(points):
            for share in (0.0, 0.5, 1.0):
                state = layout.views(torch.lerp(one, other, share))
                found.append(
                    float(nn.functional.cross_entropy(torch.func.functional_call(moved, state, inputs), labels))
                )
        return max(found)

    start = LayerWise(stages=3, moves=20, least=5, most=60, enough=0.02, lr=0.05, momentum=0.9)
    found = [one.clone() for one in start.waypoints(a, b, layout, moved, [(inputs, labels)], CrossEntropy(), 0)]
    assert worst([a, a]) < 0.02 > worst([b, b])
    assert worst(found) < worst([torch.lerp(a, b, step / 20) for step in range(21)]) / 8


def test_control_points_are_those_nearest_to_the_waypoints() -> None:
    """Of the protocol: both ends as they are, the points between as ``through`` finds them."""
    (layout, a), (_, b) = of(network(1)), of(network(2))
    material = Material(layout, network(0), batches(), CrossEntropy(), 0)
    points = list(START.points(Polychain(4), [a, b], [], material))
    expected = through(Polychain(4), [a, b], walk(START)[3], START.count(layout))
    assert torch.equal(torch.stack(points), torch.stack(expected))
    assert torch.equal(points[0], a)
    assert torch.equal(points[-1], b)
    with pytest.raises(InputError, match="start=layerwise goes from one network to another, not through 4"):
        START.points(BezierSurface(3), [a, b, a, b], [], material)


def test_a_layer_wise_start_of_a_surface_is_refused_before_anything_is_trained(config) -> None:
    with pytest.raises(InputError, match="start joins 2 networks, curve 4: start=blend"):
        plan(config("ends=four_regular", "start=layerwise"))


@pytest.mark.slow
def test_a_path_is_fitted_from_a_layer_wise_start(make) -> None:
    tiny = ("start.stages=2", "start.least=1", "start.most=2")
    plain, begun = (make(*words, goal="connect")["connect path"][0] for words in ((), ("start=layerwise", *tiny)))
    one, other = (files.load(folder / "control.safetensors") for folder in (plain, begun))
    assert set(one) == set(other)
    assert any(not torch.equal(one[name], other[name]) for name in one)
