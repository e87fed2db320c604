"""Barriers by hand, claims, tables, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.evaluation.summary import as_costs, over_replicates, summarize
from mcr.evaluation.table import PathTable, markdown
from mcr.reports import document, figures
from mcr.reports.claims import judge
from mcr.reports.figures import Panel

T = [0.0, 0.25, 0.5, 0.75, 1.0]


def summary(values, arc=(0, 1, 2, 3, 4)):
    return summarize(T, list(arc), {"loss": np.asarray(values, dtype=float)})["loss"]


def test_a_barrier_by_hand() -> None:
    per_image = np.array([[1, 3], [2, 4], [5, 7], [2, 2], [0, 2]])  # means 2, 3, 6, 2, 1
    found = summary(per_image)
    assert (found["start"], found["end"], found["max"], found["worst_t"]) == (2, 1, 6, 0.5)
    assert found["barrier"] == found["interior"] == 4
    assert found["barrier_se"] == 0  # both images rise by 4
    assert found["barrier_above_line"] == 6 - 1.5
    # excess over the line 2, 1.75, 1.5, 1.25, 1: 0, 1.25, 4.5, 0.75, 0
    assert found["area"] == pytest.approx(0.25 * (1.25 + 4.5 + 0.75))
    assert found["length_mean"] == pytest.approx((2 / 2 + 3 + 6 + 2 + 1 / 2) / 4)


def test_no_barrier_is_zero_at_the_end_and_negative_inside() -> None:
    found = summary(np.array([[5.0], [3], [2], [3], [4]]))
    assert found["barrier"] == 0
    assert found["worst_t"] == 0
    assert found["interior"] == -2
    assert found["interior_t"] == 0.25
    assert found["area"] == 0


def test_the_standard_error_is_that_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    base, bump = rng.normal(2, 5, 400), rng.normal(1, 0.1, 400)
    found = summary(np.stack([base, base, base + bump, base, base]))
    assert found["barrier_se"] == pytest.approx(bump.std(ddof=1) / 20)


def test_the_spread_over_replicates() -> None:
    found = over_replicates([1.0, 2.0, 6.0])
    assert (found["replicates"], found["mean"], found["min"], found["max"]) == (3, 3.0, 1.0, 6.0)
    assert found["se"] == pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    text = document.replicates_section({"bezier": {"test_error": found}})
    assert "+300.0 ± 152.8" in text


def test_accuracies_become_errors() -> None:
    costs = as_costs({"test_accuracy": [[1, 0]], "test_loss": [[0.5, 1]]})
    assert costs["test_error"].tolist() == [[0, 1]]
    assert costs["test_loss"].tolist() == [[0.5, 1]]


def test_the_grid_holds_both_ends() -> None:
    assert grid(5) == T
    assert grid([0.5]) == [0, 0.5, 1]
    for wrong in (1, 2, [], [2.0]):
        with pytest.raises(InputError):
            grid(wrong)


def claim(**changes):
    usual = {"source": "E16", "quantity": "loss.barrier", "relation": ">", "value": 0.0, "standard_errors": 2}
    return usual | changes


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"value": 0.85}, False),  # 1 clears 0.85 by less than two standard errors of 0.1
        ({"relation": "<=", "value": 1.0, "standard_errors": 0}, True),
        ({"relation": "<", "value": 1.0, "standard_errors": 0}, False),
        ({"relation": "<", "value": 1.1, "standard_errors": 2}, False),
    ],
)
def test_claims(changes, held) -> None:
    verdict = judge(claim(**changes), {"loss": {"barrier": 1.0, "barrier_se": 0.1}})
    assert verdict.held is held
    assert verdict.measured == 1.0


def test_claims_that_cannot_be_judged() -> None:
    assert judge(claim(), {"other": {}}) is None
    with pytest.raises(InputError, match="has no barrier"):
        judge(claim(), {"loss": {"area": 1}})
    with pytest.raises(InputError, match="relation"):
        judge(claim(relation="~"), {"loss": {"barrier": 1}})


def table(bump: float, robust: bool = True) -> PathTable:
    rows = []
    for index, t in enumerate(T):
        loss = 1 + bump * t * (1 - t)
        row = {"t": t, "arc_length": float(index), "train_loss": loss, "test_loss": loss, "test_accuracy": 0.5}
        rows.append(row | ({"robust_loss": 2 * loss, "robust_accuracy": 0.25} if robust else {}))
    return PathTable(tuple(rows))


def test_a_table_survives_the_file(tmp_path: Path) -> None:
    table(2).write_csv(tmp_path / "path.csv")
    assert PathTable.read_csv(tmp_path / "path.csv") == table(2)


def test_figures_hold_what_they_should(tmp_path: Path) -> None:
    figure = figures.path_figure([Panel("one", table(2), table(4), ""), Panel("two", table(0, robust=False), None, "")])
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:2]] == ["one", "two"]
    robust = figure.axes[2].get_lines()
    assert robust[0].get_ydata().tolist() == [2 * (1 + 2 * t * (1 - t)) for t in T]
    assert figures.path_figure([Panel("one", table(2, robust=False), None, "")]).axes.__len__() == 2
    many = figures.overlay_figure([Panel(str(index), table(index), None, "") for index in range(8)])
    assert len(many.axes[0].get_lines()) == 8
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    again = [figures.path_figure([Panel("one", table(2), table(4), "")]) for _ in range(2)]
    folders = (tmp_path / "a", tmp_path / "b")
    one, two = (figures.save(f, p, "figure", ["png", "svg"], 50) for f, p in zip(again, folders, strict=True))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_markdown_aligns() -> None:
    text = markdown(["name", "x"], [["a", "1.0"], ["long name", "12.0"]])
    assert len({len(line) for line in text.splitlines()}) == 1
    rows = document.barrier_rows("curve", {"test_loss": summary(np.array([[1.0], [2], [3], [2], [1]]))})
    assert rows[0][:6] == ["curve", "test loss", "1.000", "1.000", "3.000", "0.50"]
