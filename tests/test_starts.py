"""Where fitting begins: laws of the Coons patch in float64, its stages in the plan, and a whole fit from it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.linear import Linear, straight
from mcr.errors import InputError
from mcr.library.options import composed
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.plans import pipeline
from mcr.stages import checks
from mcr.stages.artifacts import CONTROL
from mcr.stages.context import Context
from mcr.stages.stand_ins import StandIns
from mcr.starts.coons import Coons
from mcr.starts.start import Material
from mcr.store.store import Store
from mcr.weightspace import files
from mcr.weightspace.layout import Layout

SIDES = [(3, 3), (4, 4), (3, 4), (2, 4), (5, 2)]
every_size = pytest.mark.parametrize("sides", SIDES, ids=str)
BENT = generator(0, "bent")
ENDS = torch.randn(4, 6, dtype=torch.float64, generator=BENT)
# Of each edge of the square its ends, and whether it runs along u (0) or along v (1).
EDGES = ((0, 1, 1), (0, 2, 0), (1, 3, 0), (2, 3, 1))
NOTHING = Material(Layout((), (), channels_last=False), torch.nn.Identity(), [], CrossEntropy(), "seed")


def edges(sides: tuple[int, int], bend: float) -> list[list[Tensor]]:
    """Control points of four curves between neighbouring corners, away from the straight lines by a bend."""
    found = []
    for first, last, side in EDGES:
        points = straight(sides[side]) @ ENDS[[first, last]]
        points[1:-1] += bend * torch.randn(points[1:-1].shape, dtype=torch.float64, generator=BENT)
        found.append(list(points))
    return found


def patch(sides: tuple[int, int], given: list[list[Tensor]]) -> tuple[BezierSurface, Tensor]:
    surface = BezierSurface(list(sides))
    return surface, torch.stack(list(Coons().points(surface, list(ENDS), given, NOTHING)))


def along(points: list[Tensor], t: float) -> Tensor:
    curve = Bezier(len(points)) if len(points) > 2 else Linear()
    return curve.coefficients(torch.tensor([t], dtype=torch.float64)) @ torch.stack(points)


@every_size
def test_the_edges_of_a_start_are_the_fitted_curves(sides: tuple[int, int]) -> None:
    given = edges(sides, 1.0)
    surface, points = patch(sides, given)
    for t in (0.0, 0.2, 0.7, 1.0):
        for place, edge in zip(((0, t), (t, 0), (t, 1), (1, t)), given, strict=True):
            found = surface.coefficients(torch.tensor(place, dtype=torch.float64)) @ points
            torch.testing.assert_close(found, along(edge, t), rtol=0, atol=1e-12)


@every_size
def test_straight_edges_give_the_bilinear_patch(sides: tuple[int, int]) -> None:
    surface, points = patch(sides, edges(sides, 0.0))
    torch.testing.assert_close(points, surface.initial() @ ENDS, rtol=0, atol=1e-12)


@every_size
def test_a_start_is_the_coons_patch_of_the_curves_everywhere(sides: tuple[int, int]) -> None:
    """The continuous formula, of the curves themselves: Bernstein polynomials reproduce what is linear."""
    given = edges(sides, 1.0)
    surface, points = patch(sides, given)
    left, bottom, top, right = given
    for u, v in product((0.0, 0.3, 0.8, 1.0), repeat=2):
        ruled = (1 - u) * along(left, v) + u * along(right, v) + (1 - v) * along(bottom, u) + v * along(top, u)
        corners = (1 - u) * (1 - v) * ENDS[0] + (1 - u) * v * ENDS[1] + u * (1 - v) * ENDS[2] + u * v * ENDS[3]
        found = surface.coefficients(torch.tensor([u, v], dtype=torch.float64)) @ points
        torch.testing.assert_close(found, ruled - corners, rtol=0, atol=1e-12)


def test_a_start_leaves_ends_and_edges_as_they_are() -> None:
    given = edges((4, 4), 1.0)
    kept = [[point.clone() for point in edge] for edge in given]
    patch((4, 4), given)
    assert all(
        torch.equal(a, b) for one, other in zip(given, kept, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_another_curve_has_no_coons_patch(config) -> None:
    with pytest.raises(InputError, match=r"start=coons is of curve=bezier_surface, not of Bezier$"):
        next(Coons().points(Bezier(3), list(ENDS[:2]), [], NOTHING))
    with pytest.raises(
        InputError, match=r"start=coons begins with fitted edges of curve=bezier_surface, not of Bezier$"
    ):
        pipeline.plan(config("start=coons"))


def test_edges_are_the_stages_of_paths_between_two_corners(config) -> None:
    """What was paid for as a path is not paid for again, and the other way round."""
    surface = pipeline.plan(config("ends=four_regular", "start=coons"))["connect"][0]
    checks.check(surface)
    path = pipeline.plan(config("ends=regular_regular"))["connect"][0]
    assert surface.needs["edge 0"].key == path.key
    found = [[surface.needs[f"edge {number}"].needs[f"end {end}"].key for end in (0, 1)] for number in range(4)]
    keys = [surface.needs[f"end {number}"].key for number in range(4)]
    assert found == [[keys[first], keys[last]] for first, last, _ in EDGES]
    plain = pipeline.plan(config("ends=four_regular"))["connect"][0]
    assert not any(role.startswith("edge") for role in plain.needs)
    assert plain.key != surface.key


def test_a_straight_side_is_not_fitted(config) -> None:
    surface = pipeline.plan(config("ends=four_regular", "start=coons", "curve.points=[2,4]"))["connect"][0]
    fitted = {role: need.config["curve"]["points"] for role, need in surface.needs.items() if role.startswith("edge")}
    assert fitted == {"edge 0": 4, "edge 3": 4}


@pytest.mark.slow
def test_a_surface_is_fitted_from_its_edges(make) -> None:
    made = make("ends=four_regular", "start=coons", "curve.points=[2,3]", "fit.ema_decay=0.5", goal="connect")
    assert {"connect edge start-end", "connect path"} <= set(made)
    assert made["connect path"][1] == "made"


@pytest.mark.slow
def test_the_time_of_a_fit_from_its_edges_is_asked_without_them(config, tmp_path: Path) -> None:
    """What stands in for a fitted curve has as many points between its ends."""
    surface = pipeline.plan(config("ends=four_regular", "start=coons", "curve.points=[3,4]"))["connect"][0]
    context = Context({**composed("runtime=cpu")["runtime"], "threads": 0}, {"kind": "none"}, "", tmp_path)
    inputs = StandIns(Store(tmp_path / "store"), tmp_path / "others", context).of(surface)
    for number, inner in enumerate((2, 1, 1, 2)):
        names = files.load(inputs[f"edge {number}"] / CONTROL)
        assert {name.split("/")[0] for name in names} == {str(1 + index) for index in range(inner)}
