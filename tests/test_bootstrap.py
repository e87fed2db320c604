"""The bootstrap over images, correlations along a path, and intervals over replicates."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from mcr.errors import InputError
from mcr.evaluation.bootstrap import Bootstrap, accelerated, correlations, interval, resampled
from mcr.evaluation.summary import Grid, over_replicates, summarize

USUAL = Bootstrap(1000, 0.95)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def path(points: int) -> Grid:
    places = np.linspace(0, 1, points)[:, None]
    return Grid(("t",), places, np.hstack([1 - places, places]), ("start", "end"), places[:, 0])


def nothing(found: dict[str, float]) -> bool:
    return all(math.isnan(value) for value in found.values())


# --- draws and intervals ---


def test_an_image_has_one_weight_in_all_metrics() -> None:
    """Metrics that tell one image from the others show the weights; the narrow one is of the first images."""
    wide, narrow, again = resampled([np.eye(7), np.eye(4), 3 + 2 * np.eye(4)], USUAL)
    assert wide.shape == (1000, 7)
    assert narrow.shape == (1000, 4)
    drawn = wide[:, :4].sum(1) > 0
    np.testing.assert_allclose(wide[drawn].sum(1), 1)
    assert drawn.mean() > 0.95
    np.testing.assert_allclose(wide[drawn, :4] / wide[drawn, :4].sum(1, keepdims=True), narrow[drawn])
    np.testing.assert_allclose(again[drawn], 3 + 2 * narrow[drawn])
    assert len(np.unique(wide, axis=0)) > 500


def test_the_same_values_give_the_same_draws_beside_whatever_else_is_measured() -> None:
    values = noise(3, 50)
    one, two = resampled([values, values[:, :50]], USUAL)
    assert np.array_equal(one, two)
    first, cut = resampled([values, values[:, :20]], USUAL)
    _, other = resampled([noise(5, 50, seed=1), values[:, :20]], USUAL)
    assert np.array_equal(first, one)
    assert np.array_equal(cut, other)
    assert not np.array_equal(cut, first)


@pytest.mark.parametrize("draws", [1, 99, 100, 101, 250])
def test_there_are_as_many_draws_as_asked_for_and_fewer_are_the_first_of_more(draws: int) -> None:
    """Weights are drawn some at a time; where a portion ends must not show."""
    values = noise(3, 20)
    found = resampled([values], Bootstrap(draws, 0.95))[0]
    assert found.shape == (draws, 3)
    np.testing.assert_allclose(found, resampled([values], USUAL)[0][:draws], rtol=1e-12)


def test_draws_spread_like_the_standard_error_around_the_mean() -> None:
    values = noise(4, 400) * np.array([[0.1], [1.0], [5.0], [1.0]]) + np.array([[0.0], [1.0], [-2.0], [100.0]])
    draws = resampled([values], USUAL)[0]
    error = values.std(1, ddof=1) / 20
    assert (np.abs(draws.mean(0) - values.mean(1)) < 0.2 * error).all()
    np.testing.assert_allclose(draws.std(0, ddof=1), error, rtol=0.15)


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.88, 0.99), (0.5, 0.38, 0.62)])
def test_the_interval_covers_the_truth_as_often_as_it_says(level: float, least: float, most: float) -> None:
    bootstrap, covered = Bootstrap(1000, level), 0
    for seed in range(200):
        low, high = interval(resampled([noise(1, 60, seed=seed)], bootstrap)[0][:, 0], bootstrap)
        covered += low <= 0 <= high
    assert least < covered / 200 < most


@pytest.mark.parametrize(("level", "bounds"), [(0.95, (0.025, 0.975)), (0.5, (0.25, 0.75))])
def test_the_interval_holds_the_middle_of_what_is_known(level: float, bounds: tuple[float, float]) -> None:
    bootstrap, values = Bootstrap(1, level), np.linspace(0, 1, 1001)
    assert interval(values, bootstrap) == pytest.approx(bounds)
    assert interval(np.concatenate([values, np.full(500, np.nan)]), bootstrap) == pytest.approx(bounds)
    assert all(math.isnan(value) for value in interval(np.full(3, np.nan), bootstrap))


def test_a_draw_without_any_image_says_nothing() -> None:
    """Of few images some draws take none at all: e^-N of them."""
    draws = resampled([np.full((2, 2), 5.0)], USUAL)[0]
    assert np.isnan(draws).any()
    assert np.array_equal(np.unique(draws[~np.isnan(draws)]), [5.0])
    found = summarize(path(3), {"loss": np.array([[1.0], [3.0], [1.0]])}, USUAL)["loss"]
    assert (found["interior_low"], found["interior_high"]) == (2.0, 2.0)


@pytest.mark.parametrize(("draws", "level"), [(0, 0.95), (-1, 0.95), (10, 0.0), (10, 1.0), (10, 95)])
def test_settings_that_give_no_interval_are_refused(draws: int, level: float) -> None:
    with pytest.raises(InputError, match=r"^statistics: "):
        Bootstrap(draws, level)


# --- BCa ---


def rise(means: np.ndarray) -> np.ndarray:
    """Of four places (4, ...): the inner ones above the higher end."""
    return np.maximum(means[1], means[2]) - np.maximum(means[0], means[3])


def skewed(count: int = 12) -> np.ndarray:
    """Losses of four places, the same images at each, with a long tail."""
    return noise(4, count) ** 2 + np.array([[0.2], [0.9], [1.0], [0.0]]) + 3 * (np.arange(count) == 2)


@pytest.mark.parametrize("level", [0.95, 0.6])
def test_the_interval_of_a_maximum_is_bca_by_its_formula_and_by_scipy(level: float) -> None:
    values, bootstrap = skewed(), Bootstrap(500, level)
    found = summarize(path(4), {"loss": values}, bootstrap)["loss"]
    draws, value = rise(resampled([values], bootstrap)[0].T), float(rise(values.mean(1)))
    assert not np.isnan(draws).any()
    # Efron and Tibshirani (1993), 14.9 to 14.15, image by image.
    left = [float(rise(np.delete(values, image, axis=1).mean(1))) for image in range(values.shape[1])]
    middle = sum(left) / len(left)
    cubes, squares = (sum((middle - one) ** power for one in left) for power in (3, 2))
    skew, normal = cubes / (6 * squares**1.5), stats.norm()
    bias = normal.ppf(sum(draw < value for draw in draws) / len(draws))
    sides = [bias + normal.ppf(share) for share in ((1 - level) / 2, (1 + level) / 2)]
    shares = [normal.cdf(bias + side / (1 - skew * side)) for side in sides]
    expected = np.percentile(draws, [100 * share for share in shares])
    assert [found["interior_low"], found["interior_high"]] == pytest.approx(list(expected), rel=1e-12)
    assert found["interior_bca"] == 1
    assert abs(skew) > 0.02
    assert abs(bias) > 0.02
    # SciPy's, given the same draws.
    given = stats._resampling.BootstrapResult(None, draws, None)
    told = stats.bootstrap(
        (np.arange(values.shape[1]),),
        lambda images, axis: rise(values[:, images].mean(-1)),
        n_resamples=0,
        bootstrap_result=given,
        confidence_level=level,
        method="BCa",
        vectorized=True,
    ).confidence_interval
    assert [found["interior_low"], found["interior_high"]] == pytest.approx([told.low, told.high], rel=1e-12)
    percentile = interval(draws, bootstrap)
    assert abs(percentile[0] - expected[0]) + abs(percentile[1] - expected[1]) > 1e-3


@pytest.mark.parametrize(
    "values", [[[1.0], [3.0], [1.0]], [[0.1] * 9, [0.7] * 9, [0.2] * 9]], ids=["one image", "equal images"]
)
def test_where_bca_says_nothing_the_interval_is_the_percentile_one(values: list[list[float]]) -> None:
    found = summarize(path(3), {"loss": np.array(values)}, USUAL)["loss"]
    height = values[1][0] - max(values[0][0], values[2][0])
    assert (found["interior_low"], found["interior_high"]) == pytest.approx((height, height))
    assert found["interior_bca"] == 0


def test_bca_says_nothing_of_draws_that_are_all_on_one_side() -> None:
    left_out = np.array([0.5, 0.75, 1.5])
    assert accelerated(np.array([2.0, 3.0, np.nan]), 1.0, left_out, USUAL) is None
    assert accelerated(np.array([0.25, 0.5]), 1.0, left_out, USUAL) is None
    assert accelerated(np.full(3, np.nan), 1.0, left_out, USUAL) is None
    assert accelerated(np.array([0.25, 3.0]), 1.0, left_out, USUAL) is not None


# --- correlations ---


def test_correlations_are_those_of_the_means() -> None:
    t = np.linspace(0, 1, 9)[:, None]
    first, second = 4 * t * (1 - t) + 0.3 * noise(9, 80), t + 0.3 * noise(9, 30, seed=1)
    found = correlations(first, second, USUAL)
    means = first.mean(1), second.mean(1)
    assert found["pearson"] == pytest.approx(stats.pearsonr(*means).statistic, rel=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(*means).statistic, rel=1e-12)
    assert correlations(first, second, USUAL) == found
    swapped = correlations(second, first, USUAL)
    assert {name: pytest.approx(value) for name, value in found.items()} == swapped


def test_spearman_s_correlation_shares_the_ranks_of_ties() -> None:
    means = np.array([1.0, 2, 2, 3, 3, 3]), np.array([5.0, 1, 2, 2, 7, 8])
    first, second = (values[:, None].repeat(4, 1) for values in means)
    found = correlations(first, second, USUAL)
    assert found["spearman"] == pytest.approx(stats.spearmanr(*means).statistic, rel=1e-12)


def test_the_interval_of_a_clear_correlation_contains_it_and_narrows_with_images() -> None:
    t = np.linspace(0, 1, 11)[:, None]
    widths = []
    for count in (50, 800):
        shared = noise(1, count, seed=2)
        found = correlations(t + shared + noise(11, count), t**2 + shared + noise(11, count, seed=1), USUAL)
        for kind in ("pearson", "spearman"):
            assert -1 <= found[f"{kind}_low"] <= found[kind] <= found[f"{kind}_high"] <= 1
        widths.append(found["pearson_high"] - found["pearson_low"])
    assert widths[1] < widths[0] / 2


def test_a_constant_metric_has_no_correlation_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for constant in (0.0, 1.0, -2.5):
            assert nothing(correlations(np.full((5, 8), constant), noise(5, 8), USUAL))
            assert nothing(correlations(noise(5, 8), np.full((5, 8), constant), USUAL))


@pytest.mark.parametrize(("constant", "points"), [(0.1, 3), (2.302585, 11)])
def test_a_constant_metric_has_no_correlation_whatever_its_value(constant: float, points: int) -> None:
    same = np.full((points, 10), constant)
    assert nothing(correlations(same, same, USUAL))
    assert nothing(correlations(same, noise(points, 10), USUAL))


# --- the summary ---


def test_the_interior_barrier_lies_in_its_interval() -> None:
    grid, t = path(7), np.linspace(0, 1, 7)
    shape = 4 * t * (1 - t)
    for scale, seed in ((1.0, 0), (0.0, 1), (-1.0, 2)):
        values = scale * shape[:, None] + noise(1, 300, seed=seed) + 0.5 * noise(7, 300, seed=seed + 9)
        found = summarize(grid, {"loss": values}, USUAL)["loss"]
        assert found["interior_low"] <= found["interior"] <= found["interior_high"]
    # Where it is clear at which t the maximum lies, the interval is that of one paired difference.
    sharp = noise(1, 400) + 0.5 * noise(7, 400, seed=3) + np.array([0, 0, 0, 9, 0, 0, 1.0])[:, None]
    found = summarize(grid, {"loss": sharp}, USUAL)["loss"]
    half = (found["interior_high"] - found["interior_low"]) / 2
    assert half == pytest.approx(1.96 * found["interior_se"], rel=0.15)
    assert found["interior_low"] + half == pytest.approx(found["interior"], abs=0.2 * found["interior_se"])
    narrow = summarize(grid, {"loss": sharp}, Bootstrap(1000, 0.5))["loss"]
    assert narrow["interior_high"] - narrow["interior_low"] == pytest.approx(2 * 0.674 * found["interior_se"], rel=0.2)


@pytest.mark.parametrize("level", [0.95, 0.5])
@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [0.5, 0.5], list(noise(9))])
def test_the_interval_over_replicates_is_student_s(values: list[float], level: float) -> None:
    found = over_replicates(values, level)
    with np.errstate(invalid="ignore"):
        low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    if len(set(values)) == 1:
        low = high = values[0]
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["mean"] == pytest.approx(np.mean(values))


def test_a_single_replicate_has_no_interval() -> None:
    found = over_replicates([3.0], 0.95)
    assert (found["replicates"], found["mean"], found["min"], found["max"]) == (1, 3.0, 3.0, 3.0)
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])
    assert math.isnan(found["se"])
