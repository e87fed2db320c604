"""Paths of least loss over a grid, against trying all paths; how far networks lie apart; maps of metrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.simplex import Simplex
from mcr.evaluation.routes import neighbours, routes
from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.reports import surface_figures
from mcr.reports.figures import Line, Panel

CORNERS = {"a": 0, "b": 2, "c": 6, "d": 8}
PLACES = BezierSurface(3).grid(3).numpy()
LOSS = Metric("test_loss", "nats", "lower", "clean loss", "test")
ACCURACY = Metric("test_accuracy", "share", "higher", "accuracy", "test")


def every_path(begin: int, end: int) -> list[tuple[int, ...]]:
    """All simple paths over the nine places, a step in each direction allowed: the slow twin."""
    found, waiting = [], [(begin,)]
    while waiting:
        path = waiting.pop()
        if path[-1] == end:
            found.append(path)
            continue
        row, column = divmod(path[-1], 3)
        for other in range(9):
            near = max(abs(row - other // 3), abs(column - other % 3)) == 1
            if near and other not in path:
                waiting.append((*path, other))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_least_route_is_the_best_of_all_paths(seed: int) -> None:
    mean = np.random.default_rng(seed).random(9).round(1)  # with ties
    for route in routes(PLACES, CORNERS, mean):
        begin, end = (CORNERS[name] for name in route.ends)
        paths = every_path(begin, end)
        lowest = min(max(mean[index] for index in path) for path in paths)
        assert route.rise == pytest.approx(lowest - max(mean[begin], mean[end]))
        above = mean - mean.min()
        least = min(sum(above[index] for index in path) for path in paths if max(mean[list(path)]) <= lowest)
        assert above[list(route.places)].sum() == pytest.approx(least)
        assert (route.places[0], route.places[-1]) == (begin, end)
        assert route.places in paths


def test_the_straight_segment_is_an_edge_or_the_diagonal() -> None:
    mean = np.array([0, 3, 0, 0, 5, 0, 0, 1, 0], dtype=float)
    found = {route.ends: route for route in routes(PLACES, CORNERS, mean)}
    assert found["a", "b"].straight == 3  # over the middle of the edge
    assert found["a", "b"].rise == 1  # around both: over the middle of the opposite edge
    assert found["a", "d"].straight == found["b", "c"].straight == 5  # over the centre
    assert found["c", "d"].straight == 1
    assert found["a", "c"].straight == 0


def test_places_that_no_step_joins_have_no_route() -> None:
    places = np.array([[0.0, 0.0], [0.0, 1.0], [0.1, 0.1], [1.0, 0.0], [1.0, 1.0]])
    assert routes(places, {"a": 0, "b": 1, "c": 3, "d": 4}, np.zeros(5)) == []


def test_neighbours_of_a_lattice_are_one_step_away() -> None:
    places = Simplex(4).grid(4).numpy()
    near = neighbours(places)
    for index, other in itertools.combinations(range(len(places)), 2):
        step = np.abs(places[index] - places[other]).max() < 1 / 3 + 1e-6
        assert (other in near[index]) == (index in near[other]) == step


def table(ends: tuple[str, ...], places: np.ndarray) -> Table:
    """A bowl over the places; the corners are the ends."""
    rows = []
    simplex = len(ends) == places.shape[1] + 1
    corners = [p for p in places if (max(*p, 1 - p.sum()) == 1 if simplex else set(p) <= {0.0, 1.0})]
    for place in places:
        row = dict(zip(("u", "v") if places.shape[1] == 2 else ("u1", "u2", "u3"), map(float, place), strict=True))
        distances = {
            f"distance_to_{name}": float(np.linalg.norm(place - c)) for name, c in zip(ends, corners, strict=True)
        }
        value = float(((place - 0.4) ** 2).sum())
        rows.append({**row, "norm": 1.0, **distances, "test_loss": 2 - value, "test_accuracy": value})
    names = tuple(name for name in rows[0] if name.startswith("u") or name == "v")
    return Table(names, (LOSS, ACCURACY), tuple(rows), frozenset())


def test_maps_share_one_scale_and_mark_corners_and_the_worst_place() -> None:
    known = table(("a", "b", "c", "d"), BezierSurface(3).grid(5).numpy())
    figure = surface_figures.surface_figure(Panel("run", known, [Line("flat", known)], {}), {"test_loss": [0, 6, 12]})
    maps = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in maps] == [
        "fitted: test loss", "flat: test loss", "fitted: test accuracy %", "flat: test accuracy %",
    ]  # fmt: skip
    ranges = [axis.collections[0].norm for axis in maps]
    assert ranges[0] is ranges[1] is not ranges[2]
    assert ranges[2] is ranges[3]
    said = [text.get_text() for text in maps[0].texts]
    for name, index in {"a": 0, "b": 4, "c": 20, "d": 24}.items():
        assert f"{name}\n{known.rows[index]['test_loss']:.3f}" in said
    worst = max(known.column("test_loss"))
    assert f"{worst:.3f}" in said
    routed = [len(axis.lines) for axis in maps]
    assert routed[0] == routed[1] + 2  # the fitted surface alone shows its path, on a white ground


def test_a_triangle_is_drawn_as_one_and_a_larger_simplex_by_shares() -> None:
    triangle = table(("a", "b", "c"), Simplex(3).grid(4).numpy())
    x, y = surface_figures.drawn_at(triangle)
    corners = list(surface_figures.corners_of(triangle).values())
    sides = [np.hypot(x[i] - x[j], y[i] - y[j]) for i, j in itertools.combinations(corners, 2)]
    assert sides == pytest.approx([1, 1, 1])
    larger = table(("a", "b", "c", "d"), Simplex(4).grid(3).numpy())
    figure = surface_figures.surface_figure(Panel("run", larger, [], {}), {})
    assert {axis.get_xlabel() for axis in figure.axes} == {"largest share of one network"}
    shares = figure.axes[0].collections[0].get_offsets()[:, 0]
    assert (min(shares), max(shares)) == pytest.approx((1 / 2, 1))
