"""Laws of curves: those of every option of conf/curve, and each kind's own, against slow twins in float64."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from itertools import pairwise, product
from math import comb, factorial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mcr.curves
from mcr.app.composition import conf_folder
from mcr.curves.barycentric import Barycentric, lattice
from mcr.curves.bernstein import bernstein
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bezier_triangle import BezierTriangle
from mcr.curves.bilinear import Bilinear
from mcr.curves.box import Box
from mcr.curves.curve import Curve
from mcr.curves.free_simplex import FreeSimplex
from mcr.curves.linear import Linear
from mcr.curves.polychain import Polychain
from mcr.curves.simplex import Simplex
from mcr.errors import InputError

FILES = sorted((Path(conf_folder()) / "curve").glob("*.yaml"))
Sides = tuple[int, int]
unit = st.floats(0, 1, allow_nan=False)


def option(path: Path) -> dict:
    """The keys of an option, those that it inherits among them."""
    own = yaml.safe_load(path.read_text())
    parents = [name for name in own.pop("defaults", []) if name != "_self_"]
    inherited = {key: value for name in parents for key, value in option(path.with_name(f"{name}.yaml")).items()}
    return inherited | own


def built(path: Path) -> Iterator[tuple[str, Curve]]:
    """The curve of an option; where it asks how many networks there are, one for each of a few numbers."""
    config = option(path)
    kind = pkgutil.resolve_name(config.pop("_target_"))
    config.pop("joins"), config.pop("fits")
    open_keys = [key for key, value in config.items() if str(value).startswith("${")]
    for number in (2, 3, 5) if open_keys else (0,):
        yield f"{path.stem}{number or ''}", kind(**config | dict.fromkeys(open_keys, number))


# Of each option, and of the kinds whose laws ask for other sizes.
CURVES = dict(pair for path in FILES for pair in built(path)) | {
    "polychain of 6": Polychain(6),
    "bezier of 7": Bezier(7),
    "surface of 5x5": BezierSurface(5),
    "surface of 3x4": BezierSurface([3, 4]),
    "surface of 2x3": BezierSurface([2, 3]),
    "triangle of degree 4": BezierTriangle(4),
}
every = pytest.mark.parametrize("curve", [pytest.param(curve, id=name) for name, curve in CURVES.items()])
# Convex: no coefficient is negative. Not a law of curves.
CONVEX = (Linear, Polychain, Bezier, Bilinear, BezierSurface, BezierTriangle, Simplex, FreeSimplex)


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def control(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 4, dtype=torch.float64, generator=generator(seed))


def at(curve: Curve, u: Tensor, points: Tensor) -> Tensor:
    """theta(u) (P,) of control points (K, P)."""
    return curve.coefficients(u) @ points


def straight_weights(curve: Curve, u: Tensor) -> Tensor:
    """The ends' weights (N,) before anything is fitted, by the definition of the domain: the slow twin."""
    numbers = u.tolist()
    if isinstance(curve, Barycentric):
        shares = vector(1 - sum(numbers), *numbers)
        # A free vertex begins at the average of the networks.
        return shares[: curve.ends] + shares[curve.ends :].sum() / curve.ends
    assert isinstance(curve, Box)
    weights = []
    for corner in product((0, 1), repeat=curve.dim):
        weight = 1.0
        for value, high in zip(numbers, corner, strict=True):
            weight *= value if high else 1 - value
        weights.append(weight)
    return vector(*weights)


def places(curve: Curve, count: int = 40) -> Tensor:
    """Some u of a curve's domain: drawn ones, and a grid with the corners."""
    draw = generator()
    return torch.cat([torch.stack([curve.sample(draw) for _ in range(count)]), curve.grid(4)])


# ------------------------------------------------------------------------------------------- every curve


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_option_says_truly_how_many_networks_it_joins_and_whether_it_fits(path: Path) -> None:
    """The plan reads both without torch."""
    config = option(path)
    for _, curve in built(path):
        free = (curve.initial() == 1).any(1).logical_not()
        assert config["fits"] == ("inner" if free.any() else "nothing")
        if not str(config["joins"]).startswith("${"):
            assert curve.ends == config["joins"]


def test_the_simplex_asks_how_many_networks_there_are() -> None:
    config = option(Path(conf_folder()) / "curve" / "simplex.yaml")
    assert (config["joins"], config["ends"]) == ("${count:${endpoints}}", "${.joins}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_option_describes_itself_and_comments_on_every_key(path: Path) -> None:
    first, *lines = path.read_text().splitlines()
    assert first.startswith("# ")
    keys = [line for line in lines if not line.startswith(("_target_", "defaults:", "  -"))]
    assert all("  # " in line for line in keys), keys


@every
def test_shapes_and_types(curve: Curve) -> None:
    initial = curve.initial()
    assert initial.dtype == torch.float64
    assert initial.shape[1] == curve.ends
    for u in places(curve):
        assert u.shape == (curve.dim,)
        assert u.dtype == torch.float64
        coefficients = curve.coefficients(u)
        assert coefficients.shape == initial.shape[:1]
        assert coefficients.dtype == torch.float64


@every
def test_coefficients_sum_to_one(curve: Curve) -> None:
    for u in places(curve):
        assert abs(float(curve.coefficients(u).sum()) - 1) < 1e-12


@pytest.mark.parametrize(
    "curve", [pytest.param(curve, id=name) for name, curve in CURVES.items() if isinstance(curve, CONVEX)]
)
def test_no_coefficient_of_a_convex_curve_is_negative(curve: Curve) -> None:
    for u in places(curve):
        assert (curve.coefficients(u) >= 0).all()


@every
def test_rows_of_the_beginning_sum_to_one_and_every_end_is_an_anchor(curve: Curve) -> None:
    initial = curve.initial()
    torch.testing.assert_close(initial.sum(1), torch.ones(len(initial), dtype=torch.float64), rtol=0, atol=1e-15)
    for end in range(curve.ends):
        first = int((initial[:, end] == 1).nonzero()[0])
        assert torch.equal(initial[first], torch.eye(curve.ends, dtype=torch.float64)[end])


@every
def test_the_corners_are_the_ends_bit_for_bit(curve: Curve) -> None:
    """At a corner one control point is alone, and it is an anchor: theta there is an end's own weights."""
    corners, ends = curve.grid(2), torch.eye(curve.ends, dtype=torch.float64)
    if isinstance(curve, FreeSimplex):  # a lattice has the last coordinate first: the first corner, free ones, others
        corners = corners[[0, *range(1 + curve.free, len(corners))]]
    assert len(corners) == curve.ends
    reached = torch.stack([curve.coefficients(u) @ curve.initial() for u in corners])
    # In the order of the ends over a box; a lattice has the last coordinate first.
    order = range(curve.ends) if isinstance(curve, Box) else [0, *range(curve.ends - 1, 0, -1)]
    assert torch.equal(reached, ends[list(order)])
    for u in corners:
        assert sorted(curve.coefficients(u).unique().tolist()) == [0, 1]


@every
def test_before_fitting_a_curve_is_the_straight_blend_of_its_ends(curve: Curve) -> None:
    for u in places(curve):
        blend = curve.coefficients(u) @ curve.initial()
        torch.testing.assert_close(blend, straight_weights(curve, u), rtol=0, atol=1e-12)


@every
def test_equal_ends_make_a_constant_curve(curve: Curve) -> None:
    points = curve.initial() @ control(1).expand(curve.ends, -1)
    for u in places(curve, 5):
        torch.testing.assert_close(at(curve, u, points), control(1)[0], rtol=0, atol=1e-12)


@every
def test_samples_lie_in_the_domain_and_are_reproducible(curve: Curve) -> None:
    first, again = generator(3), generator(3)
    drawn = [curve.sample(first) for _ in range(200)]
    for u in drawn:
        curve.check(u)
        assert torch.equal(u, curve.sample(again))
    assert len({tuple(u.tolist()) for u in drawn}) == 200


@every
def test_samples_are_uniform(curve: Curve) -> None:
    """First and second moments of every coordinate: of U(0, 1) in a box, of Dirichlet(1) in a simplex."""
    draw, count = generator(4), 4000
    drawn = torch.stack([curve.sample(draw) for _ in range(count)])
    n = curve.dim + 1 if isinstance(curve, Barycentric) else 2
    mean, square = 1 / n, 2 / (n * (n + 1)) if isinstance(curve, Barycentric) else 1 / 3
    # Five standard errors, of numbers in [0, 1] whose variance is at most 1/12.
    assert float((drawn.mean(0) - mean).abs().max()) < 5 * (1 / 12 / count) ** 0.5
    assert float((drawn.square().mean(0) - square).abs().max()) < 5 * (1 / 11 / count) ** 0.5


@every
@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_grid_lies_in_the_domain_without_repetition_and_has_the_corners(curve: Curve, n: int) -> None:
    grid = curve.grid(n)
    size = comb(n - 1 + curve.dim, curve.dim) if isinstance(curve, Barycentric) else n**curve.dim
    assert grid.shape == (size, curve.dim)
    assert grid.dtype == torch.float64
    rows = [tuple(u.tolist()) for u in grid]
    assert rows == sorted(set(rows))
    assert {tuple(u.tolist()) for u in curve.grid(2)} <= set(rows)
    for u in grid:
        curve.check(u)


@every
@pytest.mark.parametrize("n", [1, 0, -1])
def test_a_grid_without_corners_is_refused(curve: Curve, n: int) -> None:
    with pytest.raises(InputError, match=f"grid of {n} along an edge .* at least 2"):
        curve.grid(n)


@every
def test_check_refuses_what_lies_outside_or_has_another_dimension(curve: Curve) -> None:
    inside = torch.full((curve.dim,), 1 / (curve.dim + 1), dtype=torch.float64)
    curve.check(inside)
    for wrong in (-0.1, 1.1, float("nan"), float("inf")):
        u = inside.clone()
        u[-1] = wrong
        with pytest.raises(InputError, match=f"u=.*{wrong}.*is no place") as found:
            curve.check(u)
        assert "\n" not in str(found.value)
    for shape in ((curve.dim + 1,), (1, curve.dim), ()):
        with pytest.raises(InputError, match=f"is no place: {curve.dim} "):
            curve.check(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("module", [found.name for found in pkgutil.iter_modules(mcr.curves.__path__)])
def test_the_examples_in_the_docstrings_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"mcr.curves.{module}")).failed == 0


# ------------------------------------------------------------------------------------------- paths


def first_bezier(points: int, t: float) -> Tensor:
    """The formulas of the first edition, to whose bits stored numbers are bound."""
    n = points - 1
    return vector(*[comb(n, k) * (1 - t) ** (n - k) * t**k for k in range(n + 1)])


def first_polychain(points: int, t: float) -> Tensor:
    position = t * (points - 1)
    return (1 - (position - torch.arange(points, dtype=torch.float64)).abs()).clamp_min(0)


@given(t=unit, points=st.integers(3, 9))
def test_paths_keep_the_bits_of_the_first_edition(t: float, points: int) -> None:
    assert torch.equal(Bezier(points).coefficients(vector(t)), first_bezier(points, t))
    assert torch.equal(Polychain(points).coefficients(vector(t)), first_polychain(points, t))
    assert torch.equal(Linear().coefficients(vector(t)), vector(1 - t, t))


@pytest.mark.parametrize(
    "curve", [pytest.param(curve, id=name) for name, curve in CURVES.items() if curve.dim == 1], ids=str
)
def test_paths_are_sampled_and_walked_as_in_the_first_edition(curve: Curve) -> None:
    ours, plain = generator(7), generator(7)
    for _ in range(50):
        assert torch.equal(curve.sample(ours), torch.rand((), generator=plain, dtype=torch.float64).reshape(1))
    assert torch.equal(ours.get_state(), plain.get_state())
    for n in (2, 3, 11, 61):
        assert curve.grid(n).flatten().tolist() == [index / (n - 1) for index in range(n)]


@pytest.mark.parametrize("kind", [Bezier, Polychain])
@pytest.mark.parametrize("points", [3, 4, 8])
def test_free_points_of_a_path_begin_evenly_along_the_line(kind: type, points: int) -> None:
    rows = [[1 - i / (points - 1), i / (points - 1)] for i in range(points)]
    assert kind(points).initial().tolist() == rows


@pytest.mark.parametrize("kind", [Bezier, Polychain])
@pytest.mark.parametrize("points", [2, 1, 0, -3])
def test_a_path_without_a_free_point_is_refused(kind: type, points: int) -> None:
    with pytest.raises(InputError, match=f"points={points} leaves nothing to fit: curve=linear"):
        kind(points)


@pytest.mark.parametrize("kind", [Bezier, Polychain])
@pytest.mark.parametrize("points", [[3, 4], 3.5])
def test_a_path_has_one_number_of_points(kind: type, points: Any) -> None:
    with pytest.raises(InputError, match=rf"points={re.escape(str(points))} must be one whole number"):
        kind(points)


def de_casteljau(points: Tensor, t: float) -> Tensor:
    """Repeated interpolation of control points (K, ...): the slow twin of Bernstein polynomials."""
    rows = list(points)
    while len(rows) > 1:
        rows = [(1 - t) * a + t * b for a, b in pairwise(rows)]
    return rows[0]


@given(t=unit, points=st.integers(3, 9))
def test_bernstein_equals_de_casteljau(t: float, points: int) -> None:
    rows = control(points, seed=points)
    torch.testing.assert_close(at(Bezier(points), vector(t), rows), de_casteljau(rows, t), rtol=0, atol=1e-12)


@given(t=unit, degree=st.integers(0, 8))
def test_bernstein_is_symmetric(t: float, degree: int) -> None:
    other = vector(*bernstein(degree, 1 - t)).flip(0)
    torch.testing.assert_close(vector(*bernstein(degree, t)), other, rtol=0, atol=1e-12)


@given(share=unit, segment=st.integers(0, 3))
def test_a_chain_is_straight_between_its_bends(share: float, segment: int) -> None:
    rows = control(5, seed=1)
    expected = torch.lerp(rows[segment], rows[segment + 1], share)
    found = at(Polychain(5), vector((segment + share) / 4), rows)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------- surfaces


def test_the_ends_of_a_square_stand_at_the_corners_in_the_order_that_the_docstring_says() -> None:
    for curve in (Bilinear(), BezierSurface(3), BezierSurface(4)):
        for end, corner in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            weights = curve.coefficients(vector(*corner)) @ curve.initial()
            assert weights.tolist() == [float(index == end) for index in range(4)]


sides = st.tuples(st.integers(2, 5), st.integers(3, 5))


def surface_of(m: int, n: int) -> BezierSurface:
    return BezierSurface(n if m == n else [m, n])


@given(u=unit, v=unit, sides=sides)
def test_a_surface_is_a_bezier_curve_of_bezier_curves_in_either_order(u: float, v: float, sides: Sides) -> None:
    net = control(*sides, seed=sides[1])
    found = at(surface_of(*sides), vector(u, v), net.flatten(0, 1))
    torch.testing.assert_close(found, de_casteljau(de_casteljau(net, u), v), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, de_casteljau(de_casteljau(net.transpose(0, 1), v), u), rtol=0, atol=1e-12)


@given(t=unit, sides=sides)
def test_an_edge_of_a_surface_is_the_bezier_curve_of_its_points(t: float, sides: Sides) -> None:
    net, surface = control(*sides, seed=2), surface_of(*sides)
    rows = net.flatten(0, 1)
    for fixed, index in ((0.0, 0), (1.0, -1)):
        for u, boundary in ((vector(t, fixed), net[:, index]), (vector(fixed, t), net[index])):
            torch.testing.assert_close(at(surface, u, rows), de_casteljau(boundary, t), rtol=0, atol=1e-12)
            if len(boundary) > 2:
                edge = at(Bezier(len(boundary)), vector(t), boundary)
                torch.testing.assert_close(at(surface, u, rows), edge, rtol=0, atol=1e-12)


@given(u=unit, v=unit, sides=sides)
def test_transposing_the_points_of_a_surface_swaps_its_coordinates(u: float, v: float, sides: Sides) -> None:
    net = control(*sides, seed=3)
    swapped = at(surface_of(*reversed(sides)), vector(v, u), net.transpose(0, 1).flatten(0, 1))
    torch.testing.assert_close(at(surface_of(*sides), vector(u, v), net.flatten(0, 1)), swapped, rtol=0, atol=1e-12)


@given(u=unit, v=unit, sides=sides)
def test_transposing_the_corners_of_an_unfitted_surface_swaps_its_coordinates(u: float, v: float, sides: Sides) -> None:
    ends, one, other = control(4, seed=6), surface_of(*sides), surface_of(*reversed(sides))
    swapped = at(other, vector(v, u), other.initial() @ ends[[0, 2, 1, 3]])
    torch.testing.assert_close(at(one, vector(u, v), one.initial() @ ends), swapped, rtol=0, atol=1e-12)


@given(u=unit, v=unit)
def test_more_points_do_not_move_an_unfitted_surface(u: float, v: float) -> None:
    """Every unfitted surface is the bilinear patch."""
    ends = control(4, seed=4)
    expected = at(Bilinear(), vector(u, v), ends)
    for sides in ((3, 3), (4, 4), (3, 4), (2, 5)):
        surface = surface_of(*sides)
        found = at(surface, vector(u, v), surface.initial() @ ends)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def elevated(points: Tensor) -> Tensor:
    """The n + 1 control points (n + 1, ...) of the curve that n points (n, ...) have (Farin 2002, ch. 6.1)."""
    n = len(points)
    zero = torch.zeros_like(points[:1])
    share = torch.arange(n + 1, dtype=torch.float64).reshape(-1, *[1] * (points.dim() - 1)) / n
    return share * torch.cat([zero, points]) + (1 - share) * torch.cat([points, zero])


@given(u=unit, v=unit)
def test_elevation_of_the_degree_does_not_move_a_surface(u: float, v: float) -> None:
    """From the bilinear patch to 3x3, and from any 3x3 by 3x4 to 4x4."""
    place, patch = vector(u, v), control(2, 2, seed=7)
    quadratic = elevated(elevated(patch).transpose(0, 1)).transpose(0, 1)
    found = at(BezierSurface(3), place, quadratic.flatten(0, 1))
    torch.testing.assert_close(found, at(Bilinear(), place, patch.flatten(0, 1)), rtol=0, atol=1e-12)
    net = control(3, 3, seed=8)
    along = elevated(net.transpose(0, 1)).transpose(0, 1)
    expected = at(BezierSurface(3), place, net.flatten(0, 1))
    for surface, points in ((BezierSurface([3, 4]), along), (BezierSurface(4), elevated(along))):
        torch.testing.assert_close(at(surface, place, points.flatten(0, 1)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("points", [2, 1, 0, [2, 2]])
def test_a_surface_without_a_free_point_is_refused(points: int | list[int]) -> None:
    with pytest.raises(InputError, match=rf"points={re.escape(str(points))} leaves nothing to fit: curve=bilinear"):
        BezierSurface(points)


@pytest.mark.parametrize("points", [[3], [3, 3, 3], [3, 1], [3, 2.5], 3.5, True, "33", []])
def test_a_surface_of_other_sides_is_refused(points: Any) -> None:
    with pytest.raises(InputError, match=r"bezier_surface: points=.*(a pair of them|at least its 2 ends)"):
        BezierSurface(points)


def test_the_surface_of_the_public_code_has_five_free_points_and_the_triangle_three() -> None:
    for curve, free in ((BezierSurface(3), 5), (BezierSurface(4), 12), (BezierTriangle(2), 3), (BezierTriangle(3), 7)):
        assert int((curve.initial() == 1).any(1).logical_not().sum()) == free


# ------------------------------------------------------------------------------------------- triangles, simplexes


@st.composite
def in_triangle(draw: st.DrawFn) -> Tensor:
    first = draw(unit)
    return vector(first, draw(unit) * (1 - first))


def by_index(degree: int, rows: Tensor) -> dict[tuple[int, int, int], Tensor]:
    """Control points (K, P) by (i, j, k), in the order that the docstring says."""
    triples = [(degree - j - k, j, k) for j in range(degree + 1) for k in range(degree + 1) if j + k <= degree]
    return dict(zip(triples, rows, strict=True))


@given(u=in_triangle(), degree=st.integers(2, 5))
def test_a_triangle_equals_de_casteljau(u: Tensor, degree: int) -> None:
    triangle = BezierTriangle(degree)
    rows = control(len(triangle.initial()), seed=degree)
    net, (second, third) = by_index(degree, rows), u.tolist()
    for left in range(degree - 1, -1, -1):
        net = {
            (i, j, k): (1 - second - third) * net[i + 1, j, k] + second * net[i, j + 1, k] + third * net[i, j, k + 1]
            for i, j, k in product(range(left + 1), repeat=3)
            if i + j + k == left
        }
    torch.testing.assert_close(at(triangle, u, rows), net[0, 0, 0], rtol=0, atol=1e-12)


@given(u=in_triangle(), degree=st.integers(2, 5))
def test_coefficients_of_a_triangle_are_multinomial(u: Tensor, degree: int) -> None:
    second, third = u.tolist()
    values = [
        factorial(degree)
        / (factorial(i) * factorial(j) * factorial(k))
        * ((1 - second - third) ** i * second**j * third**k)
        for i, j, k in by_index(degree, BezierTriangle(degree).initial())
    ]
    torch.testing.assert_close(BezierTriangle(degree).coefficients(u), vector(*values), rtol=0, atol=1e-12)


@given(t=unit, degree=st.integers(2, 5))
def test_an_edge_of_a_triangle_is_the_bezier_curve_of_its_points(t: float, degree: int) -> None:
    triangle, edge = BezierTriangle(degree), Bezier(degree + 1)
    rows = control(len(triangle.initial()), seed=5)
    net, steps = by_index(degree, rows), range(degree + 1)
    edges = {
        (t, 0.0): [net[degree - s, s, 0] for s in steps],
        (0.0, t): [net[degree - s, 0, s] for s in steps],
        (1 - t, t): [net[0, degree - s, s] for s in steps],
    }
    for u, boundary in edges.items():
        expected = at(edge, vector(t), torch.stack(boundary))
        torch.testing.assert_close(at(triangle, vector(*u), rows), expected, rtol=0, atol=1e-12)


@given(u=in_triangle(), degree=st.integers(2, 5))
def test_an_unfitted_triangle_is_the_plane_of_its_ends(u: Tensor, degree: int) -> None:
    triangle = BezierTriangle(degree)
    blend = triangle.coefficients(u) @ triangle.initial()
    torch.testing.assert_close(blend, Simplex(3).coefficients(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 0, -1])
def test_a_triangle_without_a_free_point_is_refused(degree: int) -> None:
    with pytest.raises(InputError, match=f"degree={degree} leaves nothing to fit: curve=simplex"):
        BezierTriangle(degree)


@pytest.mark.parametrize("ends", [2, 3, 4, 7])
def test_the_centre_of_a_simplex_is_the_mean_of_its_ends(ends: int) -> None:
    rows, center = control(ends), torch.full((ends - 1,), 1 / ends, dtype=torch.float64)
    torch.testing.assert_close(at(Simplex(ends), center, rows), rows.mean(0), rtol=0, atol=1e-12)
    # The lattice finds it where it can.
    grid = Simplex(ends).grid(ends + 1)
    assert float((grid - center).abs().sum(1).min()) < 1e-15


@given(t=unit)
def test_a_simplex_of_two_is_the_line(t: float) -> None:
    assert torch.equal(Simplex(2).coefficients(vector(t)), Linear().coefficients(vector(t)))


@given(t=unit, free=st.integers(1, 3))
def test_the_sides_of_a_free_simplex_over_one_vertex_are_a_chain(t: float, free: int) -> None:
    """Two networks and a free vertex: from the one to that vertex, and on to the other one."""
    curve, rows = FreeSimplex(2, free), control(2 + free)
    for vertex in range(2, 2 + free):
        chain = at(Polychain(3), vector(t), rows[[0, vertex, 1]])
        shares = torch.zeros(2 + free, dtype=torch.float64)
        shares[vertex] = 2 * t if t <= 0.5 else 2 - 2 * t
        shares[0 if t <= 0.5 else 1] = 1 - shares[vertex]
        torch.testing.assert_close(at(curve, shares[1:], rows), chain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("ends", "free"), [(1, 1), (2, 0), (0, 3)])
def test_a_free_simplex_without_a_free_vertex_or_a_second_network_is_refused(ends: int, free: int) -> None:
    with pytest.raises(InputError, match=f"ends={ends} at least 2, free={free} at least 1"):
        FreeSimplex(ends, free)


@pytest.mark.parametrize("ends", [1, 0, -2])
def test_a_simplex_of_fewer_than_two_is_refused(ends: int) -> None:
    with pytest.raises(InputError, match=f"ends={ends} must be at least 2"):
        Simplex(ends)


def test_a_simplex_forgives_a_sum_above_one_by_rounding_only() -> None:
    above = vector(0.1, 0.2, 0.7 + 1e-12)
    assert float(above.sum()) > 1
    Simplex(4).check(above)
    assert float(Simplex(4).coefficients(above)[0]) == 0
    with pytest.raises(InputError, match=r"u=\[0\.5, 0\.75\] is no place: 2 shares >= 0 whose sum is at most 1"):
        Simplex(3).check(vector(0.5, 0.75))


@given(total=st.integers(0, 6), dim=st.integers(1, 4))
def test_a_lattice_is_the_filtered_product(total: int, dim: int) -> None:
    slow = [parts for parts in product(range(total + 1), repeat=dim) if sum(parts) <= total]
    assert list(lattice(total, dim)) == slow
