"""Every number that a report publishes, recomputed in plain Python from what its probes left of each image.

What a probe says of an image is recomputed from the weights in test_measures. The two networks are unlike, the places
lie unevenly, and the arc length is not proportional to t: none of these numbers can stand for another unseen.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from math import dist, isnan, sqrt
from pathlib import Path
from statistics import NormalDist, fmean, quantiles, stdev
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.stats import pearsonr, spearmanr

from tests.conftest import TINY, carried_out

T = [0.0, 0.15, 0.5, 0.7, 1.0]
CLAIMS = (
    "{source: 'A, one', quantity: robust_loss.interior, relation: '<', value: 0.1, standard_errors: 2},"
    "{source: 'B, two', quantity: test_error.end, relation: '>', value: 0.9, standard_errors: 0},"
    "{source: 'C, three', against: straight, quantity: test_loss.area, relation: '<=', value: 0, standard_errors: 0}"
)
WORDS = (
    *(word for word in TINY if not word.startswith(("dataset.images", "dataset.split"))),
    *("dataset.images=230", "dataset.split={seed: 3, train: 100, validation: 12, clean: 8, test: 70}", "logger=none"),
    *("replicate=2", "training.epochs=4", "endpoints.end.epochs=9", "training.min_accuracy_over_chance=0"),
    *(
        "optimizer.lr=0.05",
        "fit.epochs=4",
        "evaluation.grid=[0.15,0.5,0.7]",
        "attack.eps=0.06",
        "attack.step_size=0.02",
    ),
    *("probes.robust.images=40", "probes.stronger.images=24", "evaluation.hessian_images=16", "probes.input.images=16"),
    *("statistics.draws=200", "statistics.level=0.8", f"claims=[{CLAIMS}]"),
)


class Desk:
    """A finished report, and what each probe said of each image."""

    def __init__(self, root: Path, request_for: Callable[..., Any]) -> None:
        cfg = request_for(*WORDS, f"paths.root={root}").jobs[0].config
        self.folders = {label: folder for label, (folder, _) in carried_out(cfg, "report", root).items()}
        self.summary = json.loads((self.folders["report"] / "summary.json").read_text())

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folders["report"] / f"{name}.csv").open(newline="") as stream:
            return [dict(row) for row in csv.DictReader(stream)]

    def images(self, probe: str, metric: str, given: bool = False) -> list[list[float]]:
        """Place (or end) to the values of all images."""
        values = load_file(self.folders[f"measure {probe}"] / "per_image.safetensors")
        return [list(map(float, row)) for row in values[f"given/{metric}" if given else metric]]

    def costs(self, suffix: str = "") -> dict[str, list[list[float]]]:
        """The same of every metric that has a worse side, an accuracy turned into an error."""
        found = {}
        for probe, metric, right in (
            ("train", "train_loss", False),
            ("train", "train_accuracy", True),
            ("test", "test_loss", False),
            ("test", "test_accuracy", True),
            ("robust", "robust_loss", False),
            ("robust", "robust_accuracy", True),
            ("input", "input_eigenvalue", False),
            ("input", "input_gradient_norm", False),
        ):
            values = self.images(f"{probe}{suffix}", metric)
            name = metric.replace("accuracy", "error")
            found[name] = [[1 - value for value in row] for row in values] if right else values
        return found

    def arc(self, name: str) -> list[float]:
        return [float(row["arc_length"]) for row in self.table(name)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def desk(root: Path, request_for) -> Desk:
    return Desk(root, request_for)


def error(values: list[float]) -> float:
    return stdev(values) / sqrt(len(values))


def less(first: list[float], second: list[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]


def trapezoids(values: list[float], at: list[float]) -> float:
    return sum((b - a) * (x + y) / 2 for a, b, x, y in zip(at, at[1:], values, values[1:], strict=False))


def by_hand(images: list[list[float]], arc: list[float]) -> dict[str, float]:
    mean = [fmean(row) for row in images]
    line = [(1 - t) * mean[0] + t * mean[-1] for t in T]
    end = 0 if mean[0] >= mean[-1] else 4
    worst = mean.index(max(mean))
    inner = mean.index(max(mean[1:4]), 1, 4)
    above = max(range(5), key=lambda index: mean[index] - line[index])
    t = T[above]
    blend = [(1 - t) * first + t * last for first, last in zip(images[0], images[-1], strict=True)]
    return {
        "start": mean[0],
        "end": mean[-1],
        "min": min(mean),
        "max": max(mean),
        "mean": fmean(mean),
        "length_mean": trapezoids(mean, arc) / arc[-1],
        "worst_t": T[worst],
        "barrier": mean[worst] - mean[end],
        "barrier_se": error(less(images[worst], images[end])),
        "interior": mean[inner] - mean[end],
        "interior_se": error(less(images[inner], images[end])),
        "interior_t": T[inner],
        "barrier_above_line": mean[above] - line[above],
        "barrier_above_line_se": error(less(images[above], blend)),
        "area": trapezoids([max(0.0, value - on) for value, on in zip(mean, line, strict=True)], T),
    }


def test_the_fixture_tells_things_apart(desk: Desk) -> None:
    """Where these were equal, a number of the one could stand for the other unseen."""
    found = {name: by_hand(values, desk.arc("path")) for name, values in desk.costs().items()}
    loss = found["test_loss"]
    numbers = [loss[name] for name in ("start", "end", "mean", "length_mean", "barrier_above_line", "area")]
    assert len({round(value, 5) for value in numbers}) == len(numbers)
    assert desk.arc("path")[1] / desk.arc("path")[-1] != pytest.approx(0.15, abs=0.01)
    assert len({len(values[0]) for values in desk.costs().values()}) > 2
    assert any(one["barrier"] != one["interior"] for one in found.values())
    assert len({one["interior_t"] for one in found.values()}) > 1


def bca(images: list[list[float]], rises: list[float]) -> list[float]:
    """The BCa interval of four fifths: Efron and Tibshirani (1993), 14.9 to 14.15, image by image."""

    def rise(rows: list[list[float]]) -> float:
        mean = [fmean(row) for row in rows]
        return max(mean[1:4]) - max(mean[0], mean[4])

    value, normal = rise(images), NormalDist()
    left = [rise([row[:image] + row[image + 1 :] for row in images]) for image in range(len(images[0]))]
    less = [fmean(left) - one for one in left]
    skew = sum(one**3 for one in less) / (6 * sum(one**2 for one in less) ** 1.5)
    bias = normal.inv_cdf(fmean((one < value) + (one == value) / 2 for one in rises))
    sides = [bias + normal.inv_cdf(share) for share in (0.1, 0.9)]
    return [float(np.quantile(rises, normal.cdf(bias + side / (1 - skew * side)))) for side in sides]


@pytest.mark.parametrize("name", ["path", "straight"])
def test_barriers_and_all_that_is_said_of_a_metric(name: str, desk: Desk) -> None:
    found = desk.summary["subspaces"][name]["metrics"]
    expected = desk.costs("" if name == "path" else " straight")
    assert set(found) == set(expected)
    draw = np.random.default_rng(0)
    for metric, images in expected.items():
        told = dict(found[metric])
        low, high = told.pop("interior_low"), told.pop("interior_high")
        accelerated = told.pop("interior_bca")
        assert told == pytest.approx(by_hand(images, desk.arc(name)), rel=1e-6, abs=1e-9)
        # The interval of four fifths over bootstrap draws, against one with other draws.
        count = len(images[0])
        rises = []
        for _ in range(400):
            mean = [
                fmean(row[index] for index in chosen) for chosen in [draw.integers(count, size=count)] for row in images
            ]
            rises.append(max(mean[1:4]) - max(mean[0], mean[4]))
        tenths = quantiles(rises, n=10)
        width = tenths[8] - tenths[0]
        expected = bca(images, rises) if accelerated else [tenths[0], tenths[8]]
        assert [low, high] == pytest.approx(expected, abs=0.35 * width + 1e-9)


def test_tables_hold_means_over_images_and_distances_of_weights(desk: Desk) -> None:
    ends = [
        np.concatenate([value.ravel() for _, value in sorted(load_file(path / "network.safetensors").items())])
        for path in (desk.folders["train start"], desk.folders["train end"])
    ]
    for name, suffix in (("path", ""), ("straight", " straight")):
        rows = desk.table(name)
        assert [float(row["t"]) for row in rows] == T
        for metric in ("test_loss", "test_accuracy", "robust_loss", "robust_accuracy", "input_eigenvalue"):
            images = desk.images(f"{metric.split('_')[0]}{suffix}", metric)
            assert [float(row[metric]) for row in rows] == pytest.approx([fmean(row) for row in images], rel=1e-6)
        assert float(rows[-1]["distance_to_start"]) == pytest.approx(dist(*ends), rel=1e-5)
    for row in desk.table("straight"):
        for column, share in (("arc_length", float(row["t"])), ("distance_to_end", 1 - float(row["t"]))):
            assert float(row[column]) == pytest.approx(share * dist(*ends), rel=1e-5, abs=1e-6)


def test_half_of_the_places_lie_nearer_to_a_network_than_the_report_says(desk: Desk) -> None:
    for name, label in (("path", "curve"), ("straight", "straight line")):
        rows = desk.table(name)
        norm = (float(rows[0]["norm"]) + float(rows[-1]["norm"])) / 2
        shares = sorted(min(float(row["distance_to_start"]), float(row["distance_to_end"])) / norm for row in rows[1:4])
        assert desk.summary["subspaces"][name]["nearest"] == pytest.approx(shares[1], rel=1e-6)
        assert f"{100 * shares[1]:.3g} % ({label})" in (desk.folders["report"] / "report.md").read_text()


def test_the_table_of_barriers_says_what_the_summary_says(desk: Desk) -> None:
    rows = {(row["path"], row["metric"]): row for row in desk.table("barriers")}
    for name, label in (("path", "curve"), ("straight", "straight line")):
        found = desk.summary["subspaces"][name]["metrics"]
        for metric, spoken, scale, digits in (
            ("test_loss", "test loss", 1, 3),
            ("robust_error", "robust error %", 100, 1),
            ("input_eigenvalue", "input eigenvalue", 1, 3),
        ):
            row, told = rows[label, spoken], {key: scale * value for key, value in found[metric].items()}
            most = told["interior"] + max(told["start"], told["end"])
            assert row["start"] == f"{told['start']:.{digits}f}"
            assert row["end"] == f"{told['end']:.{digits}f}"
            assert row["max inside"] == f"{most:.{digits}f}"
            assert row["at"] == f"{found[metric]['interior_t']:.2f}"
            assert row["above highest end"] == f"{told['interior']:+.{digits}f} ± {told['interior_se']:.{digits}f}"
            assert row["above line"] == f"{told['barrier_above_line']:.{digits}f}"
            assert row["area"] == f"{told['area']:.{digits}f}"


def test_ends_are_told_as_they_were_given_and_in_their_place(desk: Desk) -> None:
    rows = {(row["end"], row["batchnorm"]): row for row in desk.table("ends")}
    assert list(rows) == [(end, how) for end in ("start", "end") for how in ("stored", "refreshed")]
    for index, end in enumerate(("start", "end")):
        for metric in ("train_loss", "test_accuracy", "robust_loss", "input_gradient_norm"):
            probe = metric.split("_")[0]
            given = json.loads((desk.folders[f"measure {probe}"] / "measure.json").read_text())["given"]
            assert float(rows[end, "stored"][metric]) == given[metric][index]
            place = fmean(desk.images(probe, metric)[-index])
            assert float(rows[end, "refreshed"][metric]) == pytest.approx(place, rel=1e-6)


def test_spreads_are_quantiles_over_images(desk: Desk) -> None:
    rows = [row for row in desk.table("spread") if row["metric"] == "input_eigenvalue"]
    assert [float(row["t"]) for row in rows] == T
    for row, images in zip(rows, desk.images("input", "input_eigenvalue"), strict=True):
        ordered = sorted(images)
        cut = quantiles(images, n=20, method="inclusive")
        expected = {"q05": cut[0], "q25": cut[4], "median": cut[9], "q75": cut[14], "q95": cut[18]}
        expected |= {"mean": fmean(images), "min": ordered[0], "max": ordered[-1]}
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-6)


def test_correlations_are_those_of_means_over_the_places(desk: Desk) -> None:
    found = desk.summary["subspaces"]["path"]["correlations"]
    mean = {name: [fmean(row) for row in images] for name, images in desk.costs().items()}
    for other in ("input_eigenvalue", "input_gradient_norm"):
        told = found[f"robust_loss_and_{other}"]
        assert told["pearson"] == pytest.approx(pearsonr(mean["robust_loss"], mean[other])[0])
        assert told["spearman"] == pytest.approx(spearmanr(mean["robust_loss"], mean[other])[0])
        assert told["pearson_low"] <= told["pearson"] <= told["pearson_high"]
        assert not isnan(told["spearman_low"])


def test_the_attack_of_a_figure_is_the_one_that_was_measured(desk: Desk, root: Path, request_for) -> None:
    """On the same networks: an attack that the run has and no probe carries out is none."""
    assert desk.summary["attack"] == {"norm": "linf", "eps": 0.06}
    words = [word for word in WORDS if not word.startswith(("probes.", "claims="))]
    nobody = ["probes.robust.images=0", "probes.stronger.images=0", "evaluation.hessian_images=0"]
    cfg = request_for(*words, *nobody, f"paths.root={root}").jobs[0].config
    folder, _ = carried_out(cfg, "report", root)["report"]
    assert json.loads((folder / "summary.json").read_text())["attack"] == {}


def test_a_stronger_attack_is_compared_on_its_own_images(desk: Desk) -> None:
    """At the ends and the worst place between them, on the 24 images that both attacks saw."""
    robust = desk.images("robust", "robust_accuracy")
    losses = [fmean(row) for row in desk.images("robust", "robust_loss")]
    inner = losses.index(max(losses[1:4]), 1, 4)
    longer = desk.images("stronger", "stronger_longer_accuracy")
    assert len(desk.summary["stronger"]) == len(longer) == 3
    for told, index, under in zip(desk.summary["stronger"], (0, inner, 4), longer, strict=True):
        reported = robust[index][:24]
        assert told["at"] == f"{T[index]:.2f}"
        assert told["images"] == len(under) == 24
        assert told["reported"] == pytest.approx(fmean(reported))
        assert told["stronger"] == pytest.approx(fmean(under))
        assert told["advantage"] == pytest.approx(fmean(reported) - fmean(under))
        assert told["advantage_se"] == pytest.approx(error(reported))  # what the warning asks it to exceed


def test_claims_are_judged_by_these_numbers(desk: Desk) -> None:
    path, line = (desk.summary["subspaces"][name]["metrics"] for name in ("path", "straight"))
    first, second, third = desk.summary["claims"]
    interior, doubt = path["robust_loss"]["interior"], path["robust_loss"]["interior_se"]
    assert (first["measured"], first["held"]) == (interior, interior < 0.1 - 2 * doubt)
    assert (second["measured"], second["held"]) == (path["test_error"]["end"], False)
    assert third["measured"] == pytest.approx(path["test_loss"]["area"] - line["test_loss"]["area"])
    assert third["held"] == (third["measured"] <= 0)
