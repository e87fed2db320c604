"""Where fitting looks, and where control points begin."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bezier_triangle import BezierTriangle
from mcr.curves.bilinear import Bilinear
from mcr.curves.simplex import Simplex
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.plans.pipeline import ordered, plan
from mcr.sampling.edges import Edges
from mcr.sampling.sampler import Phase, Sampling
from mcr.sampling.sobol import Sobol
from mcr.sampling.stratified import Stratified
from mcr.sampling.uniform import Uniform
from mcr.starts.blend import Blend
from mcr.starts.coons import ACROSS, ALONG, Coons, elevated
from mcr.starts.start import Known
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import blend
from tests.gradients import Keeper, subspace_module

CURVES = {"path": Bezier(3), "surface": BezierSurface(3), "triangle": BezierTriangle(2), "simplex": Simplex(4)}
every = pytest.mark.parametrize("curve", [pytest.param(curve, id=name) for name, curve in CURVES.items()])


def drawn(sampler: Uniform | Sobol | Stratified | Edges, curve: Bezier, count: int, together: int = 1) -> Tensor:
    return torch.stack(list(islice(sampler.draw(curve, together, generator(0, "t")), count)))


@every
def test_uniform_places_are_those_that_a_curve_draws(curve) -> None:
    draw = generator(0, "t")
    assert torch.equal(drawn(Uniform(), curve, 9), torch.stack([curve.sample(draw) for _ in range(9)]))


@every
@pytest.mark.parametrize(
    "sampler", [Uniform(), Sobol(), Edges(0.5), Edges(1.0)], ids=["uniform", "sobol", "half", "edges"]
)
def test_all_places_lie_in_the_domain_and_follow_from_the_seed(curve, sampler) -> None:
    found = drawn(sampler, curve, 64)
    for u in found:
        curve.check(u)
    assert torch.equal(found, drawn(sampler, curve, 64))
    assert found.unique(dim=0).shape == found.shape


def test_of_the_places_of_a_step_one_lies_in_each_stratum() -> None:
    for step in drawn(Stratified(), BezierSurface(3), 20, together=5).split(5):
        for coordinate in step.T:
            assert sorted((coordinate * 5).long().tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"sampling\.places=4"):
        next(Stratified().draw(Bezier(3), 1, generator(0)))


def test_sobol_places_fill_a_square_more_evenly_than_uniform_ones() -> None:
    """The largest gap between the share of places in a box at the origin and its area (star discrepancy), on a grid."""

    def discrepancy(places: Tensor) -> float:
        corners = BezierSurface(3).grid(9)
        inside = (places[:, None] < corners[None]).all(2).double().mean(0)
        return float((inside - corners.prod(1)).abs().max())

    curve = BezierSurface(3)
    assert discrepancy(drawn(Sobol(), curve, 128)) < discrepancy(drawn(Uniform(), curve, 128)) / 2


def test_a_share_of_the_places_lies_on_edges_each_as_often() -> None:
    found = drawn(Edges(0.5), BezierSurface(3), 2000)
    sides = [found[:, 0] == 0, found[:, 0] == 1, found[:, 1] == 0, found[:, 1] == 1]
    for side in sides:
        assert float(side.double().mean()) == pytest.approx(1 / 8, abs=0.03)
    alone = drawn(Edges(1.0), BezierSurface(3), 50)
    assert all(0 in u or 1 in u for u in alone.tolist())
    assert len(Simplex(4).edges()) == 6
    assert len(BezierSurface(3).edges()) == 4
    assert len(Bezier(3).edges()) == 1
    for begin, end in Simplex(4).edges():
        assert not torch.equal(begin, end)


def test_phases_follow_each_other_and_have_to_add_up() -> None:
    first, second = Edges(1.0), Uniform()
    sampling = Sampling(1, {"edges": Phase(0.25, first), "whole": Phase(0.75, second)})
    assert [sampling.at(epoch / 8) for epoch in range(8)] == [first] * 2 + [second] * 6
    for places, shares in ((0, [1.0]), (1, [0.5]), (1, [1.5, -0.5])):
        with pytest.raises(InputError, match="sampling"):
            Sampling(places, {str(index): Phase(share, second) for index, share in enumerate(shares)})


def test_the_gradient_of_several_places_is_the_mean_of_theirs() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    layout = Layout.of(network, "contiguous")
    draw = generator(0, "ends")
    ends = [torch.randn(layout.size, generator=draw, dtype=torch.float64) for _ in range(2)]
    images, labels = torch.rand(5, 1, 2, 2, generator=draw, dtype=torch.float64), torch.arange(5) % 3
    places = [torch.tensor([t], dtype=torch.float64) for t in (0.2, 0.7, 0.9)]

    def gradient(of: list[Tensor]) -> Tensor:
        sampling = Sampling(len(of), {"whole": Phase(1.0, Uniform())})
        common = {"layout": layout, "network": network, "num_classes": 3, "weight_decay": 0.1}
        module = subspace_module(Bezier(3), ends, **common, sampling=sampling)
        module.on_train_start()
        module.draw, module.places = generator(0), iter(of)
        keeper = Keeper(module.learning())
        wrapped = type("Wrapped", (), {"optimizer": keeper})()

        def closure() -> None:
            module.zero_grad()
            module.training_step((images, labels), 0).backward()

        module.optimizer_step(0, 0, wrapped, closure)
        assert not module.earlier
        return torch.cat(keeper.seen, 1)

    apart = torch.stack([gradient([u]) for u in places]).mean(0)
    torch.testing.assert_close(gradient(places), apart, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------------------------------------- starts


def known(curve, ends: list[Tensor], edges: dict) -> Known:
    network = nn.Linear(1, 1)
    return Known(curve, ends, edges, network, Layout.of(network, "contiguous"), [], "seed")


def vectors(count: int, seed: int) -> list[Tensor]:
    return list(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def curved(ends: list[Tensor], points: int) -> dict[tuple[int, int], list[Tensor]]:
    return {
        pair: [ends[pair[0]], *vectors(points - 2, seed), ends[pair[1]]] for seed, pair in enumerate((*ACROSS, *ALONG))
    }


@pytest.mark.parametrize("sides", [(3, 3), (4, 4), (3, 5)])
def test_the_edges_of_a_coons_patch_are_the_fitted_curves(sides: tuple[int, int]) -> None:
    ends, surface = vectors(4, 9), BezierSurface(sides)
    edges = curved(ends, 3)
    rows = torch.stack(list(Coons()(known(surface, ends, edges))))
    for t in (0.0, 0.3, 1.0):
        for fixed, along, across in ((0.0, (0, 1), (0, 2)), (1.0, (2, 3), (1, 3))):
            for pair, u in ((along, (fixed, t)), (across, (t, fixed))):
                found = surface.coefficients(torch.tensor(u)) @ rows
                expected = Bezier(3).coefficients(torch.tensor([t])) @ torch.stack(edges[pair])
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_coons_patch_between_straight_edges_is_the_bilinear_patch() -> None:
    ends, surface = vectors(4, 1), BezierSurface(4)
    edges = {pair: [blend([1 - t, t], [ends[i] for i in pair]) for t in (0, 0.5, 1)] for pair in (*ACROSS, *ALONG)}
    rows = torch.stack(list(Coons()(known(surface, ends, edges))))
    for u in BezierSurface(3).grid(4):
        expected = Bilinear().coefficients(u) @ torch.stack(ends)
        torch.testing.assert_close(surface.coefficients(u) @ rows, expected, rtol=0, atol=1e-12)
    plain = torch.stack(list(Blend()(known(surface, ends, {}))))
    torch.testing.assert_close(plain, rows, rtol=0, atol=1e-12)


def test_an_elevated_curve_is_the_same_curve() -> None:
    points = vectors(3, 2)
    more = torch.stack(list(elevated(points, 6)))
    for t in (0.1, 0.5, 0.8):
        one, other = Bezier(3).coefficients(torch.tensor([t])), Bezier(6).coefficients(torch.tensor([t]))
        torch.testing.assert_close(one @ torch.stack(points), other @ more, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="do not fit a side of 2"):
        elevated(points, 2)


def test_a_coons_patch_of_a_path_and_curves_of_a_repair_are_refused(config) -> None:
    with pytest.raises(InputError, match="start=coons is of a bezier_surface, not of Bezier"):
        list(Coons()(known(Bezier(3), vectors(2, 0), {})))
    with pytest.raises(InputError, match="a repair fits no curves between its networks first: start=blend"):
        plan(config("start=coons", "ends=four_regular") | {"verb": "repair"})


def test_the_edges_of_a_surface_are_the_paths_of_runs_of_two_networks(config) -> None:
    """What such a run has fitted is found, and not fitted again."""
    surface = {stage.key for stage in ordered(plan(config("start=coons", "ends=four_regular"))["report"])}
    path = next(s for s in ordered(plan(config())["report"]) if s.label == "connect path")
    assert path.key in surface


@pytest.mark.slow
@pytest.mark.parametrize("word", ["start=coons", "sampling=sobol", "sampling=stratified", "sampling=edges_first"])
def test_surfaces_are_fitted_from_every_start_and_by_every_sampling(make, word: str) -> None:
    made = make("ends=four_regular", "fit.epochs=4", "evaluation.grid=3", word)
    assert (made["report"][0] / "summary.json").is_file()
    assert sum(label.startswith("connect path,") for label in made) == (4 if word == "start=coons" else 0)
