"""Numbers that are not finite: refused, or said in words; no table and no file holds nan."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch

from mcr.errors import InputError
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import Grid
from mcr.metric import Metric
from mcr.reports import document, robustness
from mcr.reports.claims import judge
from mcr.stages import claimable
from mcr.stages.scorecard import Answers, measured


@pytest.mark.parametrize(("relation", "held"), [("<=", True), (">=", True), ("<", False), (">", False)])
def test_a_difference_of_shares_that_equals_a_bound_is_on_it(relation: str, held: bool) -> None:
    claim = {"source": "S", "quantity": "error.interior", "relation": relation, "value": 0.02, "standard_errors": 0}
    for share in (0.265 - 0.245, 0.285 - 0.265):
        assert share != 0.02
        assert judge(claim, {"error": {"interior": share}}).held is held
    assert judge(claim, {"error": {"interior": 0.02001}}).held is relation.startswith(">")


def test_a_claim_about_what_is_not_finite_or_not_known_is_not_tested() -> None:
    claim = {"source": "E1", "quantity": "loss.max", "relation": "<", "value": 1.0, "standard_errors": 0}
    (unknown, infinite) = (
        judge(claim | {"standard_errors": 2}, {"loss": {"max": 0.5, "max_se": math.nan}}),
        judge(claim, {"loss": {"max": math.nan}}),
    )
    assert unknown.word == infinite.word == "not tested"
    assert unknown.untested == "the standard error of loss max over images is not known"
    assert (infinite.untested, infinite.measured, infinite.value) == ("loss max is not finite", None, "not finite")


def measured_of(given: float, mean: float, number: float) -> Measured:
    """A probe of single networks, and one of several at once."""
    loss = Metric("test_loss", "nats", "lower", "loss", "test")
    cosine = Metric("gradients_clean", "1", "neither", "cosine", "gradients")
    places = np.array([0.0, 0.5, 1.0])[:, None]
    grid = Grid(("t",), places, np.hstack([1 - places, places]), ("start", "end"), np.array([0.0, 1.0, 2.0]))
    rows = tuple({"t": float(place), "arc_length": 2 * float(place)} for place in places[:, 0])
    alone = Measure((loss,), grid, rows, {"test_loss": np.ones((3, 4))}, {"test_loss": [1.0, given]}, 4, {}, "test")
    values = {"gradients_clean": np.full((3, 3, 4), mean)}
    both = Measure((cosine,), grid, rows, values, {}, 4, {"clean": number, "at": "0.50"}, "test")
    return Measured("curve", {"test": alone, "gradients": both})


def test_a_mean_that_is_not_finite_is_said_in_words() -> None:
    assert robustness.infinite(measured_of(1.0, 1.0, 1.0)) == []
    one = measured_of(math.inf, math.nan, math.nan)
    assert robustness.infinite(one) == [
        "test loss of end, as it was given, with the stored BatchNorm statistics, is not finite",
        "gradients clean is not finite at 9 of its places",
        "of gradients, clean is not finite",
    ]
    told_of = [
        document.ends_section(one.given(), one.counts),
        robustness.together_section("gradients", one.measures["gradients"]),
        robustness.correlation_section({"a_and_b": dict.fromkeys(claimable.CORRELATION, math.nan)}, {}),
    ]
    for text in told_of:
        assert not re.search(r"\b(nan|inf)\b", text)
        assert re.search("not finite|not known", text)
    assert "Images: test 4 (test split)." in told_of[0]
    assert robustness.correlation_note({"a_and_b": {"pearson": None}}, "b") == ""


def test_a_report_with_a_single_image_holds_no_nan(make) -> None:
    """Standard errors of one image are not known, and nor are correlations with what is constant."""
    made = make("evaluation.hessian_images=1", "evaluation.robust_images=1", "attack.eps=0", "dataset.split.test=1")
    place = made["report"][0]
    summary = json.loads((place / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["subspaces"]["path"]["metrics"]["robust_loss"]["interior_se"] is None
    for path in place.iterdir():
        if path.suffix in (".md", ".csv"):
            assert not re.search(r"\b(nan|inf)\b", path.read_text().lower()), path


def test_a_card_with_a_candidate_that_is_not_finite_is_refused() -> None:
    answers = Answers(torch.zeros(2), {"clean_accuracy": torch.ones(2, dtype=torch.float64)})
    rows = [{"t": 0.5, "clean_accuracy": 1.0, "from_start": math.nan}]
    with pytest.raises(InputError, match=r"^card: from_start of candidate t 0.5 is not finite; lower repair\.budget"):
        measured(dict.fromkeys(("start", "end", "after"), answers), rows, ["start", "end"], {})
