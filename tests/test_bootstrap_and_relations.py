"""The bootstrap, what points of a path have to do with each other, the guard, and what the report says of them."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mcr import pipeline
from mcr.attacks.pgd import Pgd
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.bootstrap import DRAWS, correlations, interval, resampled
from mcr.evaluation.relations import Transfer, similarity, together, transfer
from mcr.evaluation.summary import over_replicates, summarize
from mcr.evaluation.table import PathTable
from mcr.losses import cross_entropy
from mcr.plans import recipes
from mcr.probes.input_gradient import input_gradients
from mcr.probes.input_hessian import curvature
from mcr.probes.robust_risk import robust_accuracy, robust_risk
from mcr.reports import robustness
from mcr.reports import together as together_figure
from mcr.seeding import generator
from mcr.stages import artifacts, checks, model
from mcr.stages.relations import _ensemble, _similar, _transferred
from mcr.stages.report import _judged, _names
from mcr.weightspace import files
from tests.conftest import TINY, Made

# --- the bootstrap ---


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_an_image_has_one_weight_in_all_metrics() -> None:
    """Metrics that tell one image from the others show the weights; the narrow one is of the first images."""
    wide, narrow, again = resampled([np.eye(7), np.eye(4), 3 + 2 * np.eye(4)])
    assert wide.shape == (DRAWS, 7)
    assert narrow.shape == (DRAWS, 4)
    drawn = wide[:, :4].sum(1) > 0
    np.testing.assert_allclose(wide[drawn].sum(1), 1)
    assert drawn.mean() > 0.95
    np.testing.assert_allclose(wide[drawn, :4] / wide[drawn, :4].sum(1, keepdims=True), narrow[drawn])
    np.testing.assert_allclose(again[drawn], 3 + 2 * narrow[drawn])
    assert len(np.unique(wide, axis=0)) > DRAWS // 2


def test_the_same_values_give_the_same_draws_beside_whatever_else_is_measured() -> None:
    values = noise(3, 50)
    one, two = resampled([values, values[:, :50]])
    assert np.array_equal(one, two)
    first, cut = resampled([values, values[:, :20]])
    _, other = resampled([noise(5, 50, seed=1), values[:, :20]])
    assert np.array_equal(first, one)
    assert np.array_equal(cut, other)
    assert not np.array_equal(cut, first)


def test_draws_spread_like_the_standard_error_around_the_mean() -> None:
    values = noise(4, 400) * np.array([[0.1], [1.0], [5.0], [1.0]]) + np.array([[0.0], [1.0], [-2.0], [100.0]])
    draws = resampled([values])[0]
    error = values.std(1, ddof=1) / 20
    assert (np.abs(draws.mean(0) - values.mean(1)) < 0.2 * error).all()
    np.testing.assert_allclose(draws.std(0, ddof=1), error, rtol=0.15)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        low, high = interval(resampled([noise(1, 60, seed=seed)])[0][:, 0])
        covered += low <= 0 <= high
    assert 0.88 < covered / 200 < 0.99


def test_the_interval_holds_the_middle_95_percent_of_what_is_known() -> None:
    values = np.linspace(0, 1, 1001)
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(np.concatenate([values, np.full(500, np.nan)])) == pytest.approx((0.025, 0.975))
    assert all(math.isnan(value) for value in interval(np.full(3, np.nan)))


def test_a_draw_without_any_image_says_nothing() -> None:
    """Of few images some draws take none at all: e^-N of them."""
    draws = resampled([np.full((2, 2), 5.0)])[0]
    assert np.array_equal(np.unique(draws[~np.isnan(draws)]), [5.0])
    found = summarize([0.0, 0.5, 1.0], [0.0, 1.0, 2.0], {"loss": np.array([[1.0], [3.0], [1.0]])})["loss"]
    assert (found["interior_low"], found["interior_high"]) == (2.0, 2.0)


def test_correlations_are_those_of_the_means() -> None:
    t = np.linspace(0, 1, 9)[:, None]
    first, second = 4 * t * (1 - t) + 0.3 * noise(9, 80), t + 0.3 * noise(9, 30, seed=1)
    found = correlations(first, second)
    means = first.mean(1), second.mean(1)
    assert found["pearson"] == pytest.approx(stats.pearsonr(*means).statistic, rel=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(*means).statistic, rel=1e-12)
    assert correlations(first, second) == found
    swapped = correlations(second, first)
    assert {name: pytest.approx(value) for name, value in found.items()} == swapped


def test_spearman_s_correlation_shares_the_ranks_of_ties() -> None:
    means = np.array([1.0, 2, 2, 3, 3, 3]), np.array([5.0, 1, 2, 2, 7, 8])
    found = correlations(*(values[:, None].repeat(4, 1) for values in means))
    assert found["spearman"] == pytest.approx(stats.spearmanr(*means).statistic, rel=1e-12)


def test_the_interval_of_a_clear_correlation_contains_it_and_narrows_with_images() -> None:
    t = np.linspace(0, 1, 11)[:, None]
    widths = []
    for count in (50, 800):
        shared = noise(1, count, seed=2)
        found = correlations(t + shared + noise(11, count), t**2 + shared + noise(11, count, seed=1))
        for kind in ("pearson", "spearman"):
            assert -1 <= found[f"{kind}_low"] <= found[kind] <= found[f"{kind}_high"] <= 1
        widths.append(found["pearson_high"] - found["pearson_low"])
    assert widths[1] < widths[0] / 2


def nothing(found: dict[str, float]) -> bool:
    return all(math.isnan(value) for value in found.values())


def test_a_constant_metric_has_no_correlation_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for constant in (0.0, 1.0, -2.5):
            assert nothing(correlations(np.full((5, 8), constant), noise(5, 8)))
            assert nothing(correlations(noise(5, 8), np.full((5, 8), constant)))


@pytest.mark.parametrize(("constant", "points"), [(0.1, 3), (2.302585, 11)])
def test_a_constant_metric_has_no_correlation_whatever_its_value(constant: float, points: int) -> None:
    same = np.full((points, 10), constant)
    assert nothing(correlations(same, same))
    assert nothing(correlations(same, noise(points, 10)))


# --- the summary ---


def test_the_interior_barrier_lies_in_its_interval() -> None:
    t = np.linspace(0, 1, 7)
    shape = 4 * t * (1 - t)
    for scale, seed in ((1.0, 0), (0.0, 1), (-1.0, 2)):
        values = scale * shape[:, None] + noise(1, 300, seed=seed) + 0.5 * noise(7, 300, seed=seed + 9)
        found = summarize(list(t), list(t), {"loss": values})["loss"]
        assert found["interior_low"] <= found["interior"] <= found["interior_high"]
    # Where it is clear at which t the maximum lies, the interval is that of one paired difference.
    sharp = noise(1, 400) + 0.5 * noise(7, 400, seed=3) + np.array([0, 0, 0, 9, 0, 0, 1.0])[:, None]
    found = summarize(list(t), list(t), {"loss": sharp})["loss"]
    half = (found["interior_high"] - found["interior_low"]) / 2
    assert half == pytest.approx(1.96 * found["interior_se"], rel=0.15)
    assert found["interior_low"] + half == pytest.approx(found["interior"], abs=0.2 * found["interior_se"])


@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [0.5, 0.5], list(noise(9))])
def test_the_interval_over_replicates_is_student_s(values: list[float]) -> None:
    found = over_replicates(values)
    with np.errstate(invalid="ignore"):
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    if len(set(values)) == 1:
        low = high = values[0]
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["mean"] == pytest.approx(np.mean(values))


def test_a_single_replicate_has_no_interval() -> None:
    found = over_replicates([3.0])
    assert (found["replicates"], found["mean"], found["min"], found["max"]) == (1, 3.0, 3.0, 3.0)
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])
    assert math.isnan(found["se"])


# --- relations between points, on tiny networks ---


def networks(count: int = 3, classes: int = 3) -> list[nn.Module]:
    found = []
    for seed in range(count):
        draw = torch.Generator().manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, classes))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(0.8 * torch.randn(parameter.shape, generator=draw))
        found.append(network)
    return found


def batches(count: int = 11, size: int = 4, classes: int = 3) -> EvaluationBatches:
    draw = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
    return EvaluationBatches(images, torch.randint(classes, (count,), generator=draw), size, "contiguous")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def pgd(restarts: int = 1, start: str = "random", steps: int = 2) -> Pgd:
    return Pgd(eps=0.15, step_size=0.06, steps=steps, norm="linf", start=start, restarts=restarts)


def scored(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = network.eval()(images)
    return cross_entropy(logits, labels), (logits.argmax(1) == labels).float()


@pytest.mark.parametrize("restarts", [1, 3])
def test_an_attack_is_white_box_on_the_diagonal_and_handed_on_beside_it(restarts: int) -> None:
    points, given = networks(), batches()
    found = transfer(points, given, pgd(restarts), seeded, "fp32")
    assert found.losses.shape == found.hits.shape == (3, 3, 11)
    for row, network in enumerate(points):
        own = robust_risk(network, given, pgd(restarts), seeded(), "fp32", 11)
        torch.testing.assert_close(found.losses[row, row], own.losses)
        if restarts == 1:  # with more, an image stands only if every try fails, not only the one handed on
            assert torch.equal(found.hits[row, row], own.hits)
        assert (found.hits[row, row] >= own.hits).all()
        clean = torch.cat([images for images, _ in given])
        assert ((own.images - clean).abs() <= 0.15 + 1e-6).all()
        for column, other in enumerate(points):
            losses, hits = scored(other, own.images, given.labels)
            torch.testing.assert_close(found.losses[row, column], losses)
            assert torch.equal(found.hits[row, column], hits)
    other = found.losses[~torch.eye(3, dtype=torch.bool)]
    assert found.losses.diagonal().mean() > other.mean()


def test_every_network_meets_the_same_random_starts_and_is_left_as_it_was() -> None:
    points, asked = networks(), []

    def draw() -> torch.Generator:
        asked.append(seeded())
        return asked[-1]

    points[0].train()
    twins = [points[0], points[1], points[0]]
    found = transfer(twins, batches(), pgd(), draw, "fp32")
    assert len(asked) == 3
    assert torch.equal(found.losses[0], found.losses[2])
    assert torch.equal(found.losses[:, 0], found.losses[:, 2])
    assert points[0].training
    assert all(parameter.requires_grad for parameter in points[0].parameters())


class MeanProbability(nn.Module):
    """The ensemble by hand."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return sum(member(images).softmax(1) for member in self.members).div(len(self.members)).log()


def test_the_ensemble_is_attacked_as_one_network() -> None:
    points, given = networks(), batches()
    found = together(points, given, pgd(), seeded(), "fp32")
    hand = MeanProbability(points).eval()
    expected = robust_risk(hand, given, pgd(), seeded(), "fp32", 0)
    torch.testing.assert_close(found.robust_losses, expected.losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.robust_hits, expected.hits)
    clean = torch.cat([images for images, _ in given])
    assert torch.equal(found.clean_hits, scored(hand, clean, given.labels)[1])
    # Attacked one by one it would look better than it is.
    one_by_one = [
        scored(hand, robust_risk(member, given, pgd(), seeded(), "fp32", 11).images, given.labels)[0]
        for member in points
    ]
    assert all(found.robust_losses.mean() > losses.mean() for losses in one_by_one)


def test_an_ensemble_of_one_is_that_network() -> None:
    (point,), given = networks(1), batches()
    found = together([point], given, pgd(2), seeded(), "fp32")
    own = robust_risk(point, given, pgd(2), seeded(), "fp32", 0)
    torch.testing.assert_close(found.robust_losses, own.losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.robust_hits, own.hits)


def test_gradient_similarity_is_the_cosine_to_either_end() -> None:
    points, given = networks(), batches()
    few = EvaluationBatches(given.images[:5], given.labels[:5], 2, "contiguous")
    found = similarity(points, {"clean": given, "few": few})
    assert {name: list(ends) for name, ends in found.items()} == {"clean": ["start", "end"], "few": ["start", "end"]}
    gradients = [input_gradients(point, given) for point in points]
    for role, end in (("start", 0), ("end", 2)):
        values = found["clean"][role]
        assert values.shape == (3, 11)
        torch.testing.assert_close(values[end], torch.ones(11))
        expected = torch.nn.functional.cosine_similarity(gradients[end], gradients[1], dim=1)
        torch.testing.assert_close(values[1], expected)
        torch.testing.assert_close(found["few"][role], values[:, :5])
    torch.testing.assert_close(found["clean"]["start"][2], found["clean"]["end"][0])


# --- what the stages make of them ---


def crossed(hits: list[list[list[int]]]) -> Transfer:
    found = torch.tensor(hits, dtype=torch.float32)
    return Transfer(torch.zeros_like(found), found)


# Made at, tried at, image; the second point stands upright against itself and falls to the first.
CROSSED = [
    [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1]],
    [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]],
    [[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]],
]


def test_the_advantage_of_transfer_is_the_most_that_another_point_s_images_break() -> None:
    found = _transferred(crossed(CROSSED), [0.0, 0.3, 1.0])
    assert found["at"] == 0.3
    assert found["advantage"] == pytest.approx(0.75 - 0.25)
    assert found["advantage_se"] == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2)
    assert found["mean_off_diagonal"] == pytest.approx((0.25 + 1 + 1 + 1 + 0.75 + 1) / 6)
    own = [[[0, 1], [1, 1], [1, 1]], [[1, 1], [0, 0], [1, 1]], [[1, 1], [1, 1], [0, 0]]]
    assert _transferred(crossed(own), [0.0, 0.5, 1.0])["advantage"] == pytest.approx(0.5 - 1)


def test_the_gain_of_an_ensemble_is_paired_with_the_best_point() -> None:
    clean, losses = torch.tensor([1.0, 1, 1, 0]), torch.tensor([0.5, 1.5, 1.0, 3.0])
    hits = torch.tensor([1.0, 1, 0, 1])
    found = _ensemble(clean, losses, hits, crossed(CROSSED))
    assert (found["clean_accuracy"], found["robust_loss"], found["robust_accuracy"]) == (0.75, 1.5, 0.75)
    assert found["best_single"] == 0.75
    assert found["gain"] == 0
    assert found["gain_se"] == pytest.approx(np.std([0, 0, -1, 1], ddof=1) / 2)


def test_similarity_is_averaged_over_inner_points_and_paired_with_the_trigger() -> None:
    nan = math.nan
    clean = {
        "start": torch.tensor([[1.0, 1, 1], [0.8, 0.6, nan], [0.4, 0.2, nan], [0, 0, 0]]),
        "end": torch.tensor([[0.0, 0, 0], [0.2, 0.2, nan], [0.6, 0.6, nan], [1, 1, 1]]),
    }
    assert _similar({"clean": clean}) == {"clean": pytest.approx((0.8 + 0.4 + 0.2 + 0.6 + 0.6 + 0.2 + 0.2 + 0.6) / 8)}
    triggered = {role: values - torch.tensor([0.1, 0.3, 0.0]) for role, values in clean.items()}
    found = _similar({"clean": clean, "triggered": triggered})
    assert found["triggered"] == pytest.approx(found["clean"] - 0.2)
    assert found["gap"] == pytest.approx(0.2)  # the image without a gradient is left out
    assert found["gap_se"] == pytest.approx(np.std([0.1, 0.3], ddof=1) / math.sqrt(2))


# --- what the report makes of them ---


def row(t: float, attack: str, reported: float, stronger: float, error: float) -> dict[str, object]:
    advantage = reported - stronger
    numbers = {"images": 40, "reported": reported, "stronger": stronger, "advantage": advantage, "advantage_se": error}
    return {"t": t, "attack": attack, **numbers}


def guarded(*rows: dict[str, object]) -> dict[str, object]:
    return {"guard": {"rows": list(rows), "metrics": {}}}


RELATED = {
    "t": [0.0, 0.25, 1.0],
    "images": 37,
    "gradient_similarity": {
        "clean": {"start": [1.0, 0.612, 0.113], "end": [0.113, 0.499, 1.0]},
        "triggered": {"start": [1.0, 0.333, 0.044], "end": [0.044, 0.222, 1.0]},
    },
    "transfer": {
        "loss": [[1.0] * 3] * 3,
        "accuracy": [[0.111, 0.222, 0.333], [0.444, 0.555, 0.666], [0.777, 0.888, 0.999]],
    },
    "metrics": {
        "gradient_similarity": {"clean": 0.3},
        "transfer": {"advantage": 0.1, "advantage_se": 0.2, "at": 0.25, "mean_off_diagonal": 0.5},
        "ensemble": {
            "clean_accuracy": 0.987,
            "robust_loss": 1.0,
            "robust_accuracy": 0.432,
            "best_single": 0.401,
            "gain": 0.031,
            "gain_se": 0.012,
        },
    },
}
ALONE = {
    **{name: RELATED[name] for name in ("t", "images", "gradient_similarity")},
    "metrics": {"gradient_similarity": {"clean": 0.3}},
}


def related(advantage: float, error: float) -> dict[str, object]:
    told = {"advantage": advantage, "advantage_se": error, "at": 0.25, "mean_off_diagonal": 0.5}
    return {"relations": {**RELATED, "metrics": {**RELATED["metrics"], "transfer": told}}}


def test_there_is_no_warning_where_the_stronger_attack_is_within_one_standard_error() -> None:
    assert robustness.warnings({}) == []
    assert robustness.warnings(guarded()) == []
    assert robustness.warnings(guarded(row(0.0, "longer", 0.5, 0.45, 0.06), row(0.5, "longer", 0.5, 0.6, 0.0))) == []
    assert robustness.warnings(guarded(row(0.0, "longer", 0.5, 0.5, 0.0))) == []
    assert robustness.warnings({**guarded(), **related(0.1, 0.1)}) == []
    assert robustness.warnings({"relations": ALONE}) == []


def test_a_warning_names_the_attack_and_the_point_where_it_is_worst() -> None:
    rows = [
        row(0.0, "longer", 0.5, 0.43, 0.06),
        row(0.0, "square", 0.5, 0.48, 0.06),
        row(0.3, "longer", 0.6, 0.421, 0.05),
        row(1.0, "longer", 0.6, 0.58, 0.05),
    ]
    (line,) = robustness.warnings(guarded(*rows))
    for words in ("2 of 3 points", "t = 0.30", "`longer`", "42.1 %", "60.0 %", "40 images"):
        assert words in line
    assert "square" not in line


def test_a_warning_names_the_point_that_another_point_s_images_break() -> None:
    (line,) = robustness.warnings(related(0.123, 0.122))
    assert "t = 0.25" in line
    assert "12.3 points" in line
    both = robustness.warnings({**guarded(row(0.5, "longer", 0.6, 0.2, 0.05)), **related(0.123, 0.122)})
    assert len(both) == 2
    assert both[1] == line


def test_the_guard_s_section_holds_every_attack() -> None:
    calm = robustness.guard_section(guarded(row(0.5, "longer", 0.612, 0.598, 0.043))["guard"])
    assert calm.startswith("## Is the attack masked?")
    for words in ("0.50", "longer", "61.2 ± 4.3", "59.8", "40 images"):
        assert words in calm


def test_warnings_stand_out() -> None:
    (line,) = robustness.warning_lines(robustness.warnings(guarded(row(0.5, "longer", 0.612, 0.398, 0.043))))
    assert line.startswith("> **Warning:** at 1 of 1 points")


def test_the_curvature_s_section_holds_correlations_and_method() -> None:
    numbers = {"pearson": 0.912, "pearson_low": 0.801, "pearson_high": 0.977}
    numbers |= {"spearman": 0.654, "spearman_low": -0.321, "spearman_high": 0.888}
    found = {"robust_loss_and_input_eigenvalue": numbers}
    exact = robustness.correlation_section(found, {"method": "exact", "images": 64})
    assert exact.startswith("## Curvature in the input")
    for words in ("0.912 [0.801, 0.977]", "0.654 [-0.321, 0.888]", "largest input eigenvalue", "64 images", "exact"):
        assert words in exact
    rough = robustness.correlation_section({}, {"method": "lanczos", "images": 64, "largest_residual": 0.00123})
    assert "by Lanczos, residual at most 1.2e-03" in rough
    assert "Pearson" not in rough
    assert robustness.correlation_note(found) == "Pearson with robust loss 0.91"
    assert robustness.correlation_note({}) == ""


def test_the_section_of_the_points_together_holds_all_numbers() -> None:
    text = robustness.relations_section(RELATED)
    assert text.startswith("## Points of the path together")
    for words in ("37 test images", "11.1", "66.6", "99.9", "98.7 %", "43.2 %", "40.1 %", "+3.1 ± 1.2", "3 networks"):
        assert words in text
    for words in ("clean, start", "triggered, end", "0.612", "0.499", "0.333", "0.222"):
        assert words in text
    few = robustness.relations_section(ALONE)
    assert "0.612" in few
    assert "adversarial" not in few
    assert "ensemble" not in few


def test_sections_are_of_what_was_measured() -> None:
    curve = {"correlations": {}, "curvature": {"method": "exact", "images": 3}}
    heads = ("## Is the attack masked?", "## Curvature in the input", "## Points of the path together")
    guard = guarded(row(0.5, "longer", 0.6, 0.6, 0.1))
    cases = [
        (curve, {**guard, "relations": RELATED}, heads),
        ({"correlations": {}}, {**guard, "relations": RELATED}, (heads[0], heads[2])),
        (curve, {"relations": ALONE}, heads[1:]),
        (curve, guard, heads[:2]),
        ({"correlations": {}}, {}, ()),
    ]
    for found, beside, expected in cases:
        assert tuple(text.splitlines()[0] for text in robustness.sections(found, beside)) == expected


def test_a_masked_gradient_is_warned_of_without_a_guard_too() -> None:
    (line,) = robustness.warnings(related(0.5, 0.1))
    assert "white-box" in line


def test_the_figure_of_the_points_together_has_three_panels_or_one() -> None:
    full = together_figure.relations_figure(RELATED)
    assert len(full.axes) == 4  # and the colour bar
    matrix, single, similar, _ = full.axes
    assert [float(text.get_text()) for text in matrix.texts] == [11, 22, 33, 44, 56, 67, 78, 89, 100]
    assert single.lines[0].get_ydata().tolist() == pytest.approx([11.1, 55.5, 99.9])
    assert single.lines[1].get_ydata()[0] == pytest.approx(43.2)
    assert len(similar.lines) == 4
    (alone,) = together_figure.relations_figure(ALONE).axes
    assert len(alone.lines) == 4
    assert alone.get_legend() is not None


# --- from a configuration to the report ---

Run = Callable[..., Made]


class Smooth(nn.Module):
    """A network with curvature of its own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run(make: Run, store: Path) -> Run:
    """A tiny job whose store the tests of this file share, so that ends are trained once."""

    def go(*words: str, goal: str = "report", tiny: bool = True) -> Made:
        return make(f"paths.store={store}", "report.formats=[png]", *words, goal=goal, tiny=tiny)

    return go


def read(made: Made, label: str, name: str) -> dict:
    return json.loads((made[label][0] / name).read_text())


def planned(cfg: dict) -> dict[str, str]:
    return {stage.label: stage.key for stage in pipeline.ordered(pipeline.plan(cfg)["report"])}


TRAINED = ("training.epochs=12", "dataset.split.train=64", "optimizer.lr=0.1", "dataset.noise=0.1")


def test_a_path_is_guarded_and_related_and_its_report_says_so(run: Run, config) -> None:
    words = (*TRAINED, "attack.eps=0.1", "attack.step_size=0.03", "attack.steps=3")
    words = (*words, "evaluation.guard.images=12", "evaluation.relations.images=16")
    made, cfg = run(*words), config(*words)
    folder = made["report"][0]
    assert {"guard", "relations"} <= set(made)
    text, summary = (folder / "report.md").read_text(), read(made, "report", "summary.json")
    for head in ("Is the attack masked?", "Curvature in the input", "Points of the path together"):
        assert text.count(f"## {head}\n") == 1
    assert (folder / "relations.png").is_file()
    assert "(relations.png)" in text
    guard, relations = read(made, "guard", "guard.json"), read(made, "relations", "relations.json")
    assert summary["beside"] == {"guard": guard, "relations": relations}
    assert summary["warnings"] == robustness.warnings(summary["beside"])
    per_image = files.load(made["evaluate path"][0] / "per_image.safetensors")
    # The guard: both ends and the worst inner point, the reported numbers on the same images.
    inner = summary["curve"]["metrics"]["robust_loss"]["interior_t"]
    assert [line["t"] for line in guard["rows"]] == [0.0, inner, 1.0]
    for line, own in zip(guard["rows"], per_image["robust_accuracy"][:, :12], strict=True):
        assert (line["attack"], line["images"]) == ("longer", 12)
        assert line["reported"] == pytest.approx(float(own.mean()))
        assert line["advantage"] == pytest.approx(line["reported"] - line["stronger"])
        assert line["advantage_se"] == pytest.approx(float(own.std() / math.sqrt(12)))
    worst = max(guard["rows"], key=lambda line: line["advantage"])
    assert guard["metrics"]["guard"] == {name: worst[name] for name in ("advantage", "advantage_se", "t")}
    # The relations: on the diagonal the white-box numbers of the same images and random starts.
    assert relations["t"] == [0.0, 0.5, 1.0]
    assert relations["images"] == per_image["robust_loss"].shape[1] == 16
    for index in range(3):
        own = float(per_image["robust_loss"][index].mean())
        assert relations["transfer"]["loss"][index][index] == pytest.approx(own, rel=1e-4)
    assert relations["gradient_similarity"]["clean"]["start"][0] == pytest.approx(1)
    assert relations["gradient_similarity"]["clean"]["end"][2] == pytest.approx(1)
    # The curvature, and at t = 0 the start network alone.
    assert (made["evaluate path"][0] / "curvature.csv").is_file()
    assert summary["curve"]["curvature"] == {"method": "exact", "images": 4}
    assert set(summary["curve"]["correlations"]) == set(robustness.LABELS)
    network = model.make(cfg, artifacts.read_spec(made["data"][0]), "any")
    network.load_state_dict(artifacts.read_network(made["train start"][0]))
    inputs = {"data": made["data"][0], "split": made["split"][0]}
    part = artifacts.read_split(inputs, "test", "cpu", 12)
    images, labels = part.images.float() / 255, part.labels
    found = curvature(network, [(images[:4], labels[:4])], torch.Generator())
    torch.testing.assert_close(per_image["input_eigenvalue"][0], found.eigenvalue, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(per_image["input_gradient_norm"][0], found.gradient_norm, rtol=1e-4, atol=1e-6)
    assert ((per_image["eigenvector_alignment"] >= 0) & (per_image["eigenvector_alignment"] < 1 + 1e-6)).all()
    attack = Pgd(eps=0.1, step_size=0.03, steps=2, norm="linf", start="random", restarts=1)
    draw = generator(cfg["evaluation"]["seed"], "guard", "longer")
    hits = robust_accuracy(network, [(images, labels)], attack, draw, "fp32")
    assert guard["rows"][0]["stronger"] == pytest.approx(float(hits.mean()))


def test_without_an_attack_there_is_no_guard_but_curvature_and_similarity(run: Run) -> None:
    """And a smooth network's curvature is by Lanczos, with its residual."""
    words = [word for word in TINY if not word.startswith("architecture")]
    here = "architecture._target_=tests.test_bootstrap_and_relations.Smooth"
    made = run(*words, here, "attack=none", "evaluation.hessian_images=5", tiny=False)
    assert "guard" not in made
    text, summary = (made["report"][0] / "report.md").read_text(), read(made, "report", "summary.json")
    assert "Is the attack masked?" not in text
    assert "## Curvature in the input" in text
    assert "## Points of the path together" in text
    relations = read(made, "relations", "relations.json")
    assert set(relations) == {"t", "images", "gradient_similarity", "metrics"}
    assert set(relations["metrics"]) == {"gradient_similarity"}
    assert set(relations["gradient_similarity"]) == {"clean"}
    table = PathTable.read_csv(made["evaluate path"][0] / "path.csv")
    assert min(table.column("input_eigenvalue")) > 0
    assert "robust_loss" not in table.metrics
    assert "eigenvector_alignment" not in table.metrics
    assert summary["warnings"] == []
    found = summary["curve"]["curvature"]
    assert (found["method"], found["images"]) == ("lanczos", 5)
    assert found["largest_residual"] < 1e-4
    assert "by Lanczos, residual at most" in text
    assert summary["curve"]["correlations"] == {}
    residuals = files.load(made["evaluate path"][0] / "per_image.safetensors")["eigenvalue_residual"]
    assert residuals.shape == (3, 5)
    assert "eigenvalue_residual" not in summary["curve"]["metrics"]


def changed(cfg: dict, place: str, value: object) -> dict:
    """A copy of a configuration with one other value."""
    found = copy.deepcopy(cfg)
    *folders, name = place.split(".")
    part = found
    for folder in folders:
        part = part[folder]
    part[name] = value
    return found


def test_zero_images_leave_a_question_out(config) -> None:
    cfg = config()
    full = planned(cfg)
    for group in ("guard", "relations"):
        found = planned(changed(cfg, f"evaluation.{group}.images", 0))
        assert set(full) - set(found) == {group}
        assert {label for label in found if found[label] != full[label]} == {"report"}
    assert "guard" not in planned(changed(cfg, "attack", {"_target_": "mcr.attacks.none.NoAttack"}))
    assert "guard" not in planned(changed(cfg, "evaluation.guard.attacks", {}))


def test_what_stands_beside_a_table_does_not_change_its_key(config) -> None:
    cfg = config()
    full = planned(cfg)
    tables, beside = {"evaluate path", "evaluate reference"}, {"guard", "relations"}
    cases = [
        ("evaluation.guard.images", 3, {"guard"}),
        ("evaluation.guard.attacks.longer.steps", 7, {"guard"}),
        ("evaluation.guard.attacks.more", {"_target_": "mcr.attacks.fgsm.Fgsm"}, {"guard"}),
        ("evaluation.relations.images", 3, {"relations"}),
        ("evaluation.relations.grid", [0.2], {"relations"}),
        ("evaluation.hessian_images", 3, {*tables, "guard"}),
        ("evaluation.seed", 1, {*tables, *beside}),
        ("evaluation.attack", {"steps": 3}, {*tables, *beside}),
    ]
    for place, value, moved in cases:
        found = planned(changed(cfg, place, value))
        assert {label for label in full if found[label] != full[label]} == {"report", *moved}, place


def test_a_guard_s_attack_stays_in_the_ball_of_the_attack_that_it_guards() -> None:
    reported = {"_target_": "mcr.attacks.pgd.Pgd", "eps": 0.1, "norm": "l2", "step_size": 0.03, "steps": 2}
    chosen = {"_target_": "mcr.attacks.pgd.Pgd", "steps": 9, "eps": 9.0, "start": "random", "restarts": 3}
    found = recipes.stronger(reported, chosen)
    assert found == {**chosen, "eps": 0.1, "norm": "l2", "step_size": 0.03}
    assert recipes.stronger(reported, {**chosen, "step_size": 0.5})["step_size"] == 0.5
    fgsm = {"_target_": "mcr.attacks.fgsm.Fgsm", "eps": 0.1, "norm": "linf"}
    assert recipes.stronger(fgsm, chosen)["step_size"] == pytest.approx(2.5 * 0.1 / 9)
    other = {"_target_": "mcr.attacks.square.Square", "eps": 1, "norm": "linf", "queries": 5}
    assert recipes.stronger(reported, other) == {**other, "eps": 0.1, "norm": "l2"}


def test_a_backdoor_s_triggered_images_are_compared_with_the_same_ones_without(run: Run) -> None:
    made = run("pair=backdoored", "attack=none", "evaluation.relations.images=12", goal="evaluate")
    relations = read(made, "relations", "relations.json")
    assert set(relations["gradient_similarity"]) == {"clean", "triggered"}
    found = relations["metrics"]["gradient_similarity"]
    assert set(found) == {"clean", "triggered", "gap", "gap_se"}
    assert found["gap"] == pytest.approx(found["clean"] - found["triggered"], abs=1e-6)
    assert found["gap_se"] > 0
    inner = [relations["gradient_similarity"]["clean"][role][1] for role in ("start", "end")]
    assert found["clean"] == pytest.approx(sum(inner) / 2)
    assert inner != [relations["gradient_similarity"]["triggered"][role][1] for role in ("start", "end")]


NO_ATTACK_AT_ALL = ("+evaluation.attack.steps=1", "+evaluation.attack.step_size=0", "+evaluation.attack.start=zero")


def test_an_attack_that_does_nothing_is_found_out(run: Run) -> None:
    guard = "evaluation.guard.attacks.more"
    stronger = (f"+attack@{guard}=pgd", f"{guard}.steps=10", f"{guard}.step_size=0.3", "evaluation.guard.images=16")
    made = run(*TRAINED, *NO_ATTACK_AT_ALL, *stronger, "attack.eps=0.3", "evaluation.relations.images=0")
    summary = read(made, "report", "summary.json")
    rows = summary["beside"]["guard"]["rows"]
    assert {line["attack"] for line in rows} == {"longer", "more"}
    per_image = files.load(made["evaluate path"][0] / "per_image.safetensors")
    assert torch.equal(per_image["robust_accuracy"], per_image["test_accuracy"][:, :16])
    (line,) = summary["warnings"]
    worst = max(rows, key=lambda line: line["advantage"])
    assert worst["attack"] == "more"
    assert worst["advantage"] > 0.3
    assert f"`more` leaves {100 * worst['stronger']:.1f} %" in line
    assert f"t = {worst['t']:.2f}" in line
    assert f"> **Warning:** {line}." in (made["report"][0] / "report.md").read_text()


def test_the_guard_compares_the_same_images(run: Run) -> None:
    """Both attacks do nothing (the guard's takes over the step size), so that on the same images neither is better."""
    guard = "evaluation.guard.attacks.longer"
    words = (*TRAINED, *NO_ATTACK_AT_ALL, f"{guard}.steps=1", f"{guard}.start=zero", "evaluation.relations.images=0")
    made = run(*words, "evaluation.robust_images=5", "evaluation.guard.images=16", goal="evaluate")
    assert [line["advantage"] for line in read(made, "guard", "guard.json")["rows"]] == [0.0, 0.0, 0.0]


def claim(**changes: object) -> str:
    parts = {"source": "E18", "quantity": "robust_loss.mean", "relation": "<", "value": 0.0, "standard_errors": 0}
    told = ",".join(f"{name}:{json.dumps(value)}" for name, value in {**parts, **changes}.items())
    return f"{{{told}}}"


def test_a_robust_path_is_judged_against_the_regular_connection(run: Run) -> None:
    claims = [claim(against="reference", value=value) for value in (0.0, -1e6, 1e6)]
    claims += [claim(value=1e6), claim(quantity="guard.advantage", relation="<=", value=1.0)]
    claims += [claim(quantity="guard.advantage", against="reference"), claim(quantity="nothing.here")]
    words = ("objective=adversarial", "curve@reference=bezier", "attack.eps=0.1", "connection.epochs=3")
    made = run(*words, f"claims=[{','.join(claims)}]")
    text, summary = (made["report"][0] / "report.md").read_text(), read(made, "report", "summary.json")
    assert summary["reference"]["name"] == "regular connection"
    assert "## Regular connection" in text
    assert "| regular connection |" in text
    ours, theirs = (summary[name]["metrics"]["robust_loss"]["mean"] for name in ("curve", "reference"))
    assert ours != theirs
    judged = summary["claims"]
    assert len(judged) == 5  # what the reference lacks, or nobody measured, is not judged
    for one, value in zip(judged[:3], (0.0, -1e6, 1e6), strict=True):
        assert one["measured"] == pytest.approx(ours - theirs)
        assert one["held"] == (ours - theirs < value)
        assert one["statement"].endswith(", less that of the regular connection")
    assert judged[3]["measured"] == pytest.approx(ours)
    assert "less that" not in judged[3]["statement"]
    assert judged[4]["measured"] == summary["beside"]["guard"]["metrics"]["guard"]["advantage"]
    assert "## Claims" in text


QUIET = ("evaluation.guard.images=0", "evaluation.relations.images=0", "evaluation.hessian_images=0")


def test_a_quiet_report_has_no_sections_of_what_was_not_asked_but_judges_against_the_straight_line(run: Run) -> None:
    made = run(*QUIET, f"claims=[{claim(quantity='test_loss.max', against='reference')}]")
    folder = made["report"][0]
    text, summary = (folder / "report.md").read_text(), read(made, "report", "summary.json")
    for head in ("Is the attack masked?", "Curvature in the input", "Points of the path together", "relations.png"):
        assert head not in text
    assert not (folder / "relations.png").exists()
    assert not (made["evaluate path"][0] / "curvature.csv").exists()
    assert "input_eigenvalue" not in PathTable.read_csv(made["evaluate path"][0] / "path.csv").metrics
    assert "beside" not in summary
    assert "curvature" not in summary["curve"]
    assert summary["curve"]["correlations"] == {}
    assert summary["reference"]["name"] == "straight line"
    difference = summary["curve"]["metrics"]["test_loss"]["max"] - summary["reference"]["metrics"]["test_loss"]["max"]
    assert summary["claims"][0]["measured"] == pytest.approx(difference)
    assert summary["claims"][0]["statement"].endswith(", less that of the straight line")


def test_a_claim_against_a_reference_needs_one(config) -> None:
    told = f"claims=[{claim(quantity='test_loss.max', against='reference')},{claim(quantity='test_loss.max')}]"
    (stage,) = pipeline.plan(config(*QUIET, told, "curve=linear"))["report"]
    assert "reference" not in stage.needs
    found = {"path": {"metrics": {"test_loss": {"max": -1.0}}, "correlations": {}}}
    ((name, verdict),) = _judged(stage, _names(stage), found, {})
    assert (name, verdict.measured, verdict.held) == ("curve", -1.0, True)
    assert "less that" not in verdict.statement


def test_a_difference_has_no_standard_error_which_is_said_before_anything_is_computed(config) -> None:
    told = f"claims=[{claim(quantity='robust_loss.interior', against='reference', standard_errors=2)}]"
    (stage,) = pipeline.plan(config(*QUIET, told))["report"]
    with pytest.raises(InputError, match="no standard error"):
        checks.check(stage)
