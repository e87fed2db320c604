"""Figures of many jobs by factor; what is shaded, how far an axis goes, and what stands above."""

from __future__ import annotations

import doctest
import importlib
from itertools import product

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.reports import figures, headings
from mcr.reports.factor_figures import MOST_LINES, Group, columns, factor_figures, line_factor
from mcr.reports.figures import MOST_COLUMNS, Line, Panel
from mcr.reports.limits import limits

T = [0.0, 0.25, 0.75, 1.0]
METRICS = (
    Metric("train_loss", "nats", "lower", "loss", "train"),
    Metric("test_loss", "nats", "lower", "loss", "test"),
    Metric("test_accuracy", "share", "higher", "accuracy", "test"),
)


def table(height: float, level: float = 1.0) -> Table:
    rows = [
        {"t": t, "train_loss": 0.01, "test_loss": level + height * t * (1 - t), "test_accuracy": 0.9 - 0.1 * t}
        for t in T
    ]
    return Table(("t",), METRICS, tuple(rows), frozenset({"train_loss"}))


def panel(height: float, *seeds: float) -> Panel:
    return Panel("", table(height), [], {}, [table(seed) for seed in seeds])


def line_of(axis: Axes, label: str) -> list[float]:
    (line,) = [line for line in axis.get_lines() if line.get_label() == label]
    return list(line.get_ydata())


FACTORS = {"attack.eps": ("0.1", "0.2"), "curve": ("linear", "bezier", "polychain")}
GROUPS = [
    Group({"attack.eps": eps, "curve": curve}, panel(1.0 + i, i, 2.0 + i))
    for i, (eps, curve) in enumerate(product(*FACTORS.values()))
]


def test_lines_are_the_levels_of_the_factor_with_the_most_and_columns_those_of_the_others() -> None:
    (figure,) = factor_figures(GROUPS, FACTORS, "digits, mlp")
    axes = np.array(figure.axes).reshape(2, 2)  # the images that a path was fitted on are left out
    assert [axis.get_title() for axis in axes[0]] == ["eps=0.1", "eps=0.2"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["test loss", "test accuracy %"]
    for index, axis in enumerate(axes[0]):
        for order, curve in enumerate(FACTORS["curve"]):
            height = 1.0 + 3 * index + order
            assert line_of(axis, curve) == [1 + height * t * (1 - t) for t in T]
        shades = [shade.get_paths()[0].vertices[:, 1].max() for shade in axis.collections]
        assert shades == pytest.approx([1 + (2.0 + 3 * index + order) * 0.1875 for order in range(3)])
    legend = axes[0, 1].get_legend()
    assert legend.get_title().get_text() == "curve"
    assert [text.get_text() for text in legend.get_texts()] == list(FACTORS["curve"])
    assert figure.get_suptitle() == "digits, mlp"


def test_a_level_looks_the_same_in_every_panel_and_like_no_other_even_without_colour() -> None:
    (figure,) = factor_figures(GROUPS[1:], FACTORS, "")  # one panel lacks a level
    looks: dict[str, set[tuple[str, ...]]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            look = (line.get_color(), line.get_marker(), str(line.get_linestyle()))
            looks.setdefault(str(line.get_label()), set()).add(look)
    assert {len(found) for found in looks.values()} == {1}
    for part in range(3):
        assert len({next(iter(found))[part] for found in looks.values()}) == 3


@pytest.mark.parametrize(
    ("counts", "expected"), [((2, 3), "b"), ((4, 3), "a"), ((MOST_LINES + 1, 2), "b"), ((9, 8), "b")]
)
def test_lines_are_as_many_as_a_panel_has_room_for(counts: tuple[int, int], expected: str) -> None:
    factors = {name: tuple(map(str, range(count))) for name, count in zip("ab", counts, strict=True)}
    assert line_factor(factors) == expected


def test_what_has_no_room_goes_into_further_panels_and_figures_and_nothing_is_left_out() -> None:
    levels = tuple(f"v{index}" for index in range(7 * MOST_LINES + 1))
    groups = [Group({"seed": level}, panel(float(index))) for index, level in enumerate(levels)]
    made = columns(groups, {"seed": levels})
    assert [level for column in made for level in column.lines] == list(levels)
    assert max(len(column.lines) for column in made) == MOST_LINES
    sheets = factor_figures(groups, {"seed": levels}, "")
    assert [len(sheet.axes) for sheet in sheets] == [2 * MOST_COLUMNS, 2 * 2]


@pytest.mark.parametrize(("height", "scale"), [(30.0, "linear"), (90.0, "log")])
def test_where_small_values_would_not_be_seen_the_axis_is_logarithmic_and_says_so(height: float, scale: str) -> None:
    groups = [Group({"curve": "linear"}, panel(height)), Group({"curve": "bezier"}, panel(0.1))]
    (figure,) = factor_figures(groups, {"curve": ("linear", "bezier")}, "")
    assert figure.axes[0].get_yscale() == scale
    assert figure.axes[0].get_ylabel().endswith("(log)") == (scale == "log")
    low, high = figure.axes[0].get_ylim()
    assert low < 1 < 1 + 0.1875 * height < high


# --- figures of few paths ---


def test_the_standard_error_over_images_is_shaded_where_there_are_no_seeds() -> None:
    errors = {"test_loss": [0.1, 0.2, 0.3, 0.4], "test_accuracy": [0.01] * 4}
    one = Panel("", table(1.0), [], {}, errors=errors)
    loss, accuracy = figures.path_figure([one]).axes
    (shade,) = loss.collections
    places = {tuple(vertex) for vertex in shade.get_paths()[0].vertices.round(6).tolist()}
    for t, error in zip(T, errors["test_loss"], strict=True):
        mean = 1 + t * (1 - t)
        assert {(t, round(mean - error, 6)), (t, round(mean + error, 6))} <= places
    assert accuracy.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(91.0)
    (seeds,) = figures.path_figure([one._replace(replicates=[table(3.0), table(2.0)])]).axes[0].collections
    assert seeds.get_paths()[0].vertices[:, 1].max() == pytest.approx(1 + 3 * 0.1875)


@pytest.mark.parametrize(("height", "hidden"), [(5.0, False), (20.0, True)])
def test_a_reference_far_above_the_path_leaves_the_panel_and_it_is_said(height: float, hidden: bool) -> None:
    axis = figures.path_figure([Panel("", table(0.5), [Line("straight line", table(height))], {})]).axes[0]
    top, notes = axis.get_ylim()[1], [text.get_text() for text in axis.texts]
    peak, path = 1 + 0.1875 * height, 1 + 0.1875 * 0.5
    assert (top < peak) == hidden
    assert path < top
    assert notes == ([f"straight line up to {peak:.3g}"] if hidden else [])


def test_nothing_below_zero_is_cut_off() -> None:
    axis = figures.path_figure([Panel("", table(1.0, level=-2.0), [], {})]).axes[0]
    assert axis.get_ylim()[0] < -2
    (figure,) = factor_figures([Group({"a": "x"}, Panel("", table(1.0, level=-2.0), [], {}))], {"a": ("x",)}, "")
    assert figure.axes[0].get_ylim()[0] < -2


@pytest.mark.parametrize(
    ("low", "high", "bottom"),
    [(0.2, 1.0, 0.0), (2.0, 2.5, 1.97), (-1.0, 1.0, -1.12), (0.0, 0.0, 0.0), (3.0, 3.0, 2.82)],
)
def test_an_axis_begins_at_zero_where_that_hides_nothing(low: float, high: float, bottom: float) -> None:
    found = limits(low, high)
    assert found[0] == pytest.approx(bottom)
    assert found[1] > high


def test_what_stands_above_a_figure_is_as_wide_as_it() -> None:
    figure = Figure(figsize=(4, 3))
    headings.head(figure, "digits, small_cnn; attack: linf, eps=8/255; images: test 450, robust 200 (test split)")
    assert len(figure.get_suptitle().splitlines()) == 2
    assert max(map(len, figure.get_suptitle().splitlines())) <= 4 * headings.AN_INCH


@pytest.mark.parametrize("module", ["captions", "latex", "limits", "pivots"])
def test_the_examples_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"mcr.reports.{module}"))
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.drawn
def test_figures_by_factor_are_drawn_whole(tmp_path) -> None:
    (figure,) = factor_figures(GROUPS, FACTORS, "digits, mlp; attack: linf, eps=8/255; images: test 450")
    (path,) = figures.save(figure, tmp_path, "figure", ["png"], 60)
    pixels = matplotlib.image.imread(path)[..., :3]
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((side == 1).all() for side in border)  # nothing reaches the edge
