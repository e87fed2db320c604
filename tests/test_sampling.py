"""Places of a fit: laws of every sampler of conf/sampling, and of steps with one place or several."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import comb
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import mcr
from mcr.app.composition import conf_folder
from mcr.curves.barycentric import Barycentric
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bezier_triangle import BezierTriangle
from mcr.curves.curve import Curve
from mcr.curves.simplex import Simplex
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.sampling.edges import Edges
from mcr.sampling.phased import Phased
from mcr.sampling.sampler import Sampler
from mcr.sampling.sobol import Sobol
from mcr.sampling.stratified import Stratified
from mcr.sampling.uniform import Uniform
from mcr.store.build import build_tree
from mcr.training.subspace import SubspaceModule
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import control_points
from tests.gradients import Keeper

SAMPLERS: dict[str, Sampler] = {
    path.stem: build_tree(yaml.safe_load(path.read_text())) for path in (conf_folder() / "sampling").glob("*.yaml")
}
CURVES: tuple[Curve, ...] = (Bezier(3), BezierSurface(3), BezierSurface([2, 3]), BezierTriangle(2), Simplex(5))
every_curve = pytest.mark.parametrize("curve", CURVES, ids=str)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def walked(sampler: Sampler, curve: Curve, count: int, seed: int = 0, progress: float = 0.9) -> Tensor:
    """The first places (count, dim) of an epoch."""
    walk = sampler.begin(curve, generator(seed, "t"))
    return torch.stack([walk(progress) for _ in range(count)])


def on_an_edge(curve: Curve, u: Tensor) -> bool:
    """By the equations of the domain: at most two shares of a simplex, one coordinate of a square, are off a side."""
    if isinstance(curve, Barycentric):
        return int((torch.cat([u, 1 - u.sum().reshape(1)]).abs() > 1e-12).sum()) <= 2
    return int(((u > 0) & (u < 1)).sum()) <= 1


@every_curve
@every_sampler
def test_places_lie_in_the_domain_and_follow_from_the_generator(sampler: Sampler, curve: Curve) -> None:
    first = walked(sampler, curve, 50)
    assert first.dtype == torch.float64
    assert first.shape == (50, curve.dim)
    for u in first:
        curve.check(u)
    assert torch.equal(first, walked(sampler, curve, 50))
    assert not torch.equal(first, walked(sampler, curve, 50, seed=1))


@every_curve
def test_uniform_places_are_the_numbers_that_a_curve_samples(curve: Curve) -> None:
    draw = generator(0, "t")
    assert torch.equal(walked(Uniform(), curve, 30), torch.stack([curve.sample(draw) for _ in range(30)]))


@every_curve
@pytest.mark.parametrize("sampler", [Stratified(4), Sobol()], ids=["stratified", "sobol"])
def test_spread_places_are_uniform_in_the_mean(sampler: Sampler, curve: Curve) -> None:
    """By first moments over many scramblings, of which a place is uniform whatever its number."""
    places = torch.cat([walked(sampler, curve, 16, seed) for seed in range(60)])
    mean = 1 / curve.ends if isinstance(curve, Barycentric) else 1 / 2
    assert float((places.mean(0) - mean).abs().max()) < 5 * (1 / 12 / len(places)) ** 0.5


def test_each_round_of_strata_has_one_place_in_each_cell() -> None:
    places = walked(Stratified(3), BezierSurface(3), 18)
    for half in places.split(9):
        cells = {tuple(row) for row in (half * 3).long().tolist()}
        assert cells == {(i, j) for i in range(3) for j in range(3)}
    assert not torch.equal(places[:9], places[9:])


def gaps(places: Tensor) -> float:
    """The largest step between sorted numbers, ends of [0, 1] among them."""
    numbers = [0.0, *sorted(places.flatten().tolist()), 1.0]
    return max(after - before for before, after in pairwise(numbers))


def test_a_sequence_of_low_discrepancy_leaves_smaller_gaps_than_independent_places() -> None:
    """Scrambled, 2^k numbers have one in each interval of length 2^-k: no gap is above twice that."""
    assert max(gaps(walked(Sobol(), Bezier(3), 64, seed)) for seed in range(10)) <= 2 / 64
    assert min(gaps(walked(Uniform(), Bezier(3), 64, seed)) for seed in range(10)) > 2 / 64
    for coordinate in walked(Sobol(), BezierSurface(3), 64).T:
        assert sorted((coordinate * 64).long().tolist()) == list(range(64))


@every_curve
def test_edges_are_all_visited_and_nothing_else_is(curve: Curve) -> None:
    places = walked(Edges(1.0), curve, 200)
    assert all(on_an_edge(curve, u) for u in places)
    count = comb(curve.ends, 2) if isinstance(curve, Barycentric) else curve.dim * 2 ** (curve.dim - 1)
    assert len(curve.edges()) == count
    for first, last in curve.edges():
        near = [(u - first).norm() + (u - last).norm() - (first - last).norm() < 1e-9 for u in places]
        assert any(near)


@pytest.mark.parametrize("curve", [BezierSurface(3), BezierTriangle(2)], ids=str)
def test_a_share_of_edges_is_that_share(curve: Curve) -> None:
    found = sum(on_an_edge(curve, u) for u in walked(Edges(0.25), curve, 1000))
    assert 250 - 70 < found < 250 + 70


def test_phases_change_at_their_share_of_training() -> None:
    curve = BezierSurface(3)
    sampler = Phased(0.5, Edges(1.0), Phased(0.75, Uniform(), Edges(1.0)))
    walk = sampler.begin(curve, generator(0, "t"))
    found = [all(on_an_edge(curve, walk(at)) for _ in range(20)) for at in (0.1, 0.499, 0.5, 0.749, 0.75, 0.99)]
    assert found == [True, True, False, False, True, True]
    assert vars(SAMPLERS["phased"])["share"] == pytest.approx(6 / 26)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"share=.* must be above 0, up to 1"):
        Edges(share)
    with pytest.raises(InputError, match=r"share=.* must lie between 0 and 1"):
        Phased(share, Uniform(), Uniform())


def test_cells_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="cells=0 must be at least 1"):
        Stratified(0)
    with pytest.raises(InputError, match="cells=1001: more than 1,000,000 cells in 2 dimensions"):
        Stratified(1001).begin(BezierSurface(3), generator(0))


# ------------------------------------------------------------------------------------------- steps


def module(places: int, sampler: Sampler | None = None, **changes: Any) -> SubspaceModule:
    network, curve = linear(9), BezierSurface(3)
    layout = Layout.of(network, "contiguous")
    ends = [layout.pack(linear(seed).state_dict()) for seed in range(4)]
    usual: dict[str, Any] = {"curve": curve, "layout": layout, "free": "inner", "transforms": []}
    usual |= {"points": control_points(curve, ends), "sampler": sampler or Uniform(), "places": places}
    usual |= {"weight_decay": 0.1, "ema_decay": 0.0, "network": network, "objective": CrossEntropy(), "num_classes": 3}
    usual |= {"optimizer": partial(torch.optim.SGD, lr=0.1), "schedule": None, "seed": "s"}
    made = SubspaceModule(**(usual | changes))
    made.on_train_start()
    made.draw = generator(0, "objective")
    made.walk = made.sampler.begin(made.curve, generator(7, "t"))
    return made


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(4, 3).double()


class Wrapped:
    """An optimizer as Lightning hands it over."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def stepped(made: SubspaceModule) -> Tensor:
    """The gradients (F, P) with which one step moves the free points."""
    draw = generator(3, "batch")
    batch = (torch.rand(8, 4, generator=draw, dtype=torch.float64), torch.arange(8) % 3)
    keeper = Keeper(made.learning())

    def closure() -> None:
        keeper.zero_grad()
        made.training_step(batch, 0).backward()

    made.optimizer_step(0, 0, Wrapped(keeper), closure)
    return torch.cat(keeper.seen, 1)


def test_several_places_of_a_step_average_the_gradients_of_each() -> None:
    found = stepped(module(3))
    one = module(1)
    expected = torch.stack([stepped(one) for _ in range(3)]).mean(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found, stepped(module(1)))


def test_several_places_are_told_as_one_step() -> None:
    made, one = module(3), module(1)
    stepped(made)
    for _ in range(3):
        stepped(one)
    assert len(made.steps) == 1
    assert float(made.steps[0][0]) == pytest.approx(float(torch.stack([loss for loss, _ in one.steps]).mean()))


# ------------------------------------------------------------------------------------------- the library


@pytest.mark.slow
def test_a_subspace_is_fitted_at_the_places_of_any_sampler() -> None:
    images, labels = torch.rand(32, 1, 2, 2), torch.arange(32) % 3
    found = []
    for sampling, places in (("uniform", 1), (Uniform(), 1), ("sobol", 1), (Edges(1.0), 2)):
        networks = [nn.Sequential(nn.Flatten(), linear(seed).float()) for seed in range(4)]
        space = mcr.Subspace(networks, "bezier_surface")
        mcr.fit(space, (images, labels), epochs=2, batch_size=8, sampling=sampling, places=places)
        found.append(torch.stack(space.points))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    # On its edges a surface does not depend on the point in the middle.
    assert torch.equal(found[3][4], found[3][[0, 2, 6, 8]].mean(0))
    assert not torch.equal(found[3][1], found[3][[0, 2]].mean(0))
    with pytest.raises(InputError, match="sampling= is of the places of a subspace"):
        mcr.fit(networks[0], (images, labels), sampling="sobol")
