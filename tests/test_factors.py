"""What several jobs say by what was varied: means over replicates, pivots, paired differences, the words at the end."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from mcr.app import run, terminal
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.plans import pipeline
from mcr.reports import differences, document
from mcr.reports.factor_tables import ByFactor
from mcr.reports.factors import UNSET, Design
from mcr.reports.joint import Finished
from mcr.reports.latex import tabular
from mcr.reports.numbers import Number, numbers
from mcr.reports.pivots import Layout, Pivot, narrow
from tests.conftest import TINY

LEVEL = 0.95
STUDENT = {2: 12.7062, 3: 4.30265}  # 97.5 % quantiles for so many replicates
RISE = Number("path", "robust_loss", "interior")
AUTO: dict[str, list[str]] = {"rows": [], "columns": []}
METRICS = [
    Metric("train_loss", "nats", "lower", "loss", "train"),
    Metric("test_accuracy", "share", "higher", "accuracy", "test"),
    Metric("robust_loss", "nats", "lower", "loss", "robust"),
    Metric("robust_rank", "1", "neither", "", "robust"),
]


def statistics(start: float, end: float, interior: float) -> dict[str, Any]:
    return {"start": start, "end": end, "interior": interior, "barrier_above_line": 0.7, "area": 0.11}


def summary(rise: float) -> dict[str, Any]:
    """Of a job whose robust loss rises so much above the ends 1 and 1.25."""
    table = {"metrics": [asdict(metric) for metric in METRICS], "fitted": ["train_loss"]}
    found = {metric.cost: statistics(0.5, 0.25, 0.125) for metric in METRICS}
    found["robust_loss"] = statistics(1.0, 1.25, rise)
    return {"ends": ["start", "end"], "subspaces": {"path": {"table": table, "apart": {}, "metrics": found}}}


def job(rise: float, replicate: int, **settings: str) -> Finished:
    words = {name.replace("__", "."): value for name, value in settings.items()}
    return Finished(Path(), {**words, "replicate": str(replicate)}, {"replicate": replicate}, summary(rise))


def design(*jobs: Finished) -> Design:
    return Design.of(jobs, [f"job {index}" for index in range(len(jobs))])


# Three replicates of the straight line and two of a curve at one radius, one of each at another.
RISES = {
    ("linear", "8/255"): {0: 4.0, 1: 5.0, 2: 9.0},
    ("bezier", "8/255"): {0: 1.0, 2: 3.0},
    ("linear", "0.1"): {0: 6.0},
    ("bezier", "0.1"): {0: 6.5},
}
MANY = [
    job(rise, replicate, curve=curve, attack__eps=eps)
    for (curve, eps), rises in RISES.items()
    for replicate, rise in rises.items()
]


def spread_of(values: Sequence[float]) -> list[float]:
    """Mean and Student's interval by hand."""
    half = STUDENT[len(values)] * stdev(values) / math.sqrt(len(values))
    return [fmean(values), fmean(values) - half, fmean(values) + half]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def told(spread: Mapping[str, float]) -> list[float]:
    return [spread[name] for name in ("mean", "low", "high")]


# --- numbers and factors ---


def test_the_numbers_of_a_path_are_its_ends_the_maximum_inside_the_rises_and_the_area() -> None:
    metrics, values = numbers(summary(2.0))
    assert [metrics[name].label for name in ("train_loss", "robust_loss", "test_error")] == ["", "loss", "accuracy"]
    found = {number.statistic: value for number, value in values.items() if number.metric == "robust_loss"}
    rises = {"interior": 2.0, "barrier_above_line": 0.7, "area": 0.11}
    assert found == {"start": 1.0, "end": 1.25, "max_inside": 3.25, **rises}
    _, unknown = numbers(summary(math.nan))
    assert [math.isnan(unknown[RISE._replace(statistic=name)]) for name in ("max_inside", "interior", "end")] == [
        *(True, True, False)
    ]


def test_factors_are_what_varies_and_the_replicate_is_none() -> None:
    found = design(
        job(1.0, 0, curve="linear", architecture="mlp"),
        job(2.0, 1, curve="bezier", architecture="mlp", fit__epochs="3"),
    )
    assert found.factors == {"curve": ("linear", "bezier"), "fit.epochs": (UNSET, "3")}
    assert found.replicates == ("0", "1")


def test_a_job_that_repeats_another_is_counted_once_and_named() -> None:
    found = design(job(1.0, 0, curve="linear"), job(3.0, 1, curve="linear"), job(9.0, 1, curve="linear"))
    assert found.repeated == ("job 2",)
    (cell,) = [cell for cell in found.means([], LEVEL) if cell.number == RISE]
    assert told(cell.spread) == pytest.approx(spread_of([1.0, 3.0]), rel=1e-5)


# --- means ---


def test_means_and_intervals_are_over_the_replicates_of_each_combination() -> None:
    found = {
        cell.levels: cell.spread for cell in design(*MANY).means(["curve", "attack.eps"], LEVEL) if cell.number == RISE
    }
    assert {levels: spread["replicates"] for levels, spread in found.items()} == {
        levels: len(rises) for levels, rises in RISES.items()
    }
    for levels in (("linear", "8/255"), ("bezier", "8/255")):
        assert told(found[levels]) == pytest.approx(spread_of([*RISES[levels].values()]), rel=1e-5)
    mean, low, high = told(found["bezier", "0.1"])
    assert mean == 6.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_factor_that_is_not_asked_by_is_averaged_over_within_each_replicate() -> None:
    """Replicates 1 and 2 lack a radius: a mean with them would be of another mixture."""
    found = {cell.levels: cell.spread for cell in design(*MANY).means(["curve"], LEVEL) if cell.number == RISE}
    assert (found["linear",]["mean"], found["linear",]["replicates"]) == ((4.0 + 6.0) / 2, 1)
    assert (found["bezier",]["mean"], found["bezier",]["replicates"]) == ((1.0 + 6.5) / 2, 1)


# --- layout ---

FACTORS = {"curve": ("linear", "bezier", "polychain"), "attack.eps": ("0.1", "0.2"), "ends": ("a", "b")}


@pytest.mark.parametrize(
    ("rows", "columns", "found"),
    [
        ([], [], (("curve", "ends"), ("attack.eps",))),
        (["ends"], [], (("ends",), ("curve", "attack.eps"))),
        ([], ["curve"], (("attack.eps", "ends"), ("curve",))),
        (["ends"], ["curve"], (("ends",), ("curve",))),
    ],
)
def test_columns_are_the_factor_with_the_fewest_levels_unless_others_are_asked_for(rows, columns, found) -> None:
    assert Layout.of(FACTORS, rows, columns) == Layout(*found)


def test_of_a_single_factor_the_levels_are_rows() -> None:
    assert Layout.of({"curve": ("a", "b")}, [], []) == Layout(("curve",), ())


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (["curves"], [], "report.rows: curves does not vary over the jobs; what does: curve, attack.eps, ends"),
        ([], ["replicate"], "report.columns: replicate does not vary.*the replicate is averaged over"),
        (["ends"], ["ends"], "report.rows and report.columns both name ends"),
    ],
)
def test_a_factor_that_there_is_not_is_refused_with_those_that_there_are(rows, columns, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Layout.of(FACTORS, rows, columns)


def test_a_pivot_has_a_row_for_each_level_of_the_rows_and_says_where_replicates_differ() -> None:
    found = design(*MANY)
    pivot = Pivot.of(found, Layout(("attack.eps",), ("curve",)), LEVEL)
    head, rows = pivot.table([RISE], "+")
    assert head == ["eps", "linear", "bezier"]
    half = {
        curve: STUDENT[n] * stdev(RISES[curve, "8/255"].values()) / n**0.5
        for curve, n in (("linear", 3), ("bezier", 2))
    }
    assert rows == [
        ["8/255", f"+6.000 ± {half['linear']:.3f} (n = 3)", f"+2.000 ± {half['bezier']:.3f} (n = 2)"],
        ["0.1", "+6.000 (n = 1)", "+6.500 (n = 1)"],
    ]
    (record,) = [
        one for one in pivot.records() if (one["metric"], one["statistic"], one["attack.eps"]) == (*RISE[1:], "0.1")
    ]
    assert (record["linear mean"], record["bezier mean"], record["linear n"]) == (6.0, 6.5, 1)


def test_a_wide_table_becomes_several_of_eighty_characters_with_the_names_of_the_rows() -> None:
    head = ["a factor", *(f"level number {index}" for index in range(9))]
    row = ["low", *(f"+{index}.000 ± 0.250" for index in range(9))]
    parts = narrow(head, [row], 1)
    assert len(parts) == 3
    lines = [line for part in parts for line in part.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("| low")] == lines[2::3]
    assert all(sum(cell in part for part in parts) == 1 for cell in row[1:])


@pytest.mark.parametrize(("width", "tables"), [(33, 1), (34, 2)])
def test_a_table_that_just_fits_is_not_cut(width: int, tables: int) -> None:
    parts = narrow(["abc", "x" * 34, "y" * width], [["low", "1", "2"]], 1)
    assert len(parts) == tables
    assert len(narrow(["abc", "x" * 34, "y" * 33], [], 1)[0].splitlines()[0]) == 80


# --- paired differences ---


def test_levels_are_compared_over_the_replicates_that_both_have() -> None:
    """Bezier less linear at 8/255: replicates 0 and 2 are 1 - 4 and 3 - 9; replicate 1 has no Bezier curve."""
    found = {
        (one.factor, one.level, one.against, *one.others.values()): one
        for one in differences.between_levels(design(*MANY), LEVEL)
        if one.number == RISE
    }
    assert set(found) == {
        ("curve", "bezier", "linear", "8/255"),
        ("curve", "bezier", "linear", "0.1"),
        ("attack.eps", "0.1", "8/255", "linear"),
        ("attack.eps", "0.1", "8/255", "bezier"),
    }
    one = found["curve", "bezier", "linear", "8/255"]
    assert told(one.spread) == pytest.approx(spread_of([-3.0, -6.0]), rel=1e-5)
    assert (one.spread["replicates"], one.unmatched) == (2, ("1",))
    single = found["curve", "bezier", "linear", "0.1"]
    assert (single.spread["mean"], single.spread["replicates"], single.unmatched) == (0.5, 1, ())
    assert math.isnan(single.spread["low"])


def test_levels_without_a_common_replicate_have_no_difference_and_it_is_said() -> None:
    apart = design(job(1.0, 0, curve="linear"), job(2.0, 1, curve="bezier"))
    (one,) = [one for one in differences.between_levels(apart, LEVEL) if one.number == RISE]
    assert (one.spread, one.unmatched) == ({}, ("0", "1"))
    record = differences.record(one, apart.factors)
    assert (record["n"], record["unmatched"]) == (0, "0 1")
    assert math.isnan(record["mean"])


# --- report, files, terminal ---


def test_the_sections_hold_means_and_differences_and_what_stands_behind_them() -> None:
    text = "\n".join(ByFactor.of(design(*MANY), AUTO, LEVEL).sections(["job 3"]))
    squeezed = " ".join(text.split())
    assert "- attack.eps: 8/255, 0.1" in text
    assert "train" not in text  # the images that a path was fitted on
    assert "| 0.1 | +6.000 (n = 1) | +6.500 (n = 1) |" in squeezed
    assert "**curve: less linear**" in text
    assert "| bezier | 8/255 | 2 |" in squeezed
    assert f"{-4.5:+.3f} ± {STUDENT[2] * stdev([-3, -6]) / 2**0.5:.3f}" in text
    assert "Of one pair there is no interval." in text
    assert "Jobs that a note is about are among them: job 3." in text
    assert "bezier and linear at eps=8/255: replicate 1" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 80


def test_where_only_the_replicate_varies_there_is_nothing_to_say_by_factor() -> None:
    assert ByFactor.of(design(job(1.0, 0, curve="a"), job(2.0, 1, curve="a")), AUTO, LEVEL).sections([]) == []


def test_the_files_hold_every_number_in_the_long_form(tmp_path: Path) -> None:
    ByFactor.of(design(*MANY), AUTO, LEVEL).write(tmp_path)
    rows = read(tmp_path / "factors.csv")
    head = ["curve", "attack.eps", "subspace", "metric", "statistic", "n", "mean", "low", "high"]
    assert list(rows[0]) == head
    assert len(rows) == len(RISES) * len(METRICS) * 6
    (row,) = [row for row in rows if [*row.values()][:5] == ["linear", "8/255", *RISE]]
    assert row["n"] == "3"
    assert [float(row[name]) for name in head[6:]] == pytest.approx(spread_of([4.0, 5.0, 9.0]), rel=1e-5)
    less = read(tmp_path / "differences.csv")
    (row,) = [
        row
        for row in less
        if row["unmatched"]
        and row["statistic"] == "interior"
        and row["metric"] == RISE.metric
        and row["factor"] == "curve"
    ]
    assert (row["curve"], row["attack.eps"], row["n"], float(row["mean"])) == ("", "8/255", "2", -4.5)
    assert len(read(tmp_path / "pivot.csv")) == 2 * len(METRICS) * 6
    assert (tmp_path / "factors.tex").read_text().count(r"\begin{tabular}") == 2  # test error, robust loss


def test_latex_of_names_that_are_no_latex() -> None:
    text = tabular(["a_b", "x %"], [[r"\input{x}", "+1.0 ± 0.5"], ["[n]", "$&#"]], 1)
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"a\_b & x \% \\",
        r"\hline",
        r"\textbackslash{}input\{x\} & +1.0 \ensuremath{\pm} 0.5 \\",
        r"{[}n{]} & \$\&\# \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_a_sweep_ends_with_its_jobs_its_factors_and_the_number_that_matters(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal.print_overview(ByFactor.of(design(*MANY), AUTO, LEVEL).overview(failed=2))
    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines() if line]
    assert lines[:4] == [
        "9 jobs: 7 finished, 2 failed",
        "curve: linear, bezier",
        "attack.eps: 8/255, 0.1",
        "replicate: 0, 1, 2",
    ]
    assert lines[4].startswith("robust loss: the rise of the path above its highest end")
    assert lines[5] == "eps linear bezier"
    assert max(map(len, said.splitlines())) <= 80


def test_repairs_are_told_by_network() -> None:
    described = {
        "clean_accuracy": asdict(METRICS[1]),
        "attack_success": asdict(Metric("attack_success", "share", "lower", "%")),
    }

    def repaired(method: str, replicate: int, after: float) -> Finished:
        metrics = {"clean_accuracy": {"start": 0.9, "after": 0.8}, "attack_success": {"start": 1.0, "after": after}}
        told = {"kind": "repair", "descriptions": described, "metrics": metrics}
        return Finished(Path(), {"repair": method}, {"replicate": replicate}, told)

    jobs = [
        repaired(*one) for one in (("prune", 0, 0.5), ("path_point", 0, 0.1), ("prune", 1, 0.7), ("path_point", 1, 0.2))
    ]
    whole = ByFactor.of(design(*jobs), AUTO, LEVEL)
    one = next(d for d in whole.differences if d.number == Number("", "attack_success", "after"))
    assert told(one.spread) == pytest.approx(spread_of([-0.4, -0.5]), rel=1e-5)
    found = whole.overview(failed=0)
    assert found.title == "attack success %: the repaired network"
    assert found.rows == [["prune", f"60.0 ± {STUDENT[2] * 10:.1f}"], ["path_point", f"15.0 ± {STUDENT[2] * 5:.1f}"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "curve=linear,bezier", "report.rows=[curves]"], "curves does not vary over the jobs; what does: curve"),
        (["report.columns=[curve]"], "report.columns: curve does not vary over the jobs; what does: none"),
    ],
)
def test_a_factor_that_does_not_vary_is_refused_before_anything_is_made(
    words, said: str, request_for, tmp_path
) -> None:
    with pytest.raises(InputError, match=said):
        run.check(request_for(*TINY, f"paths.root={tmp_path}", *words))
    assert list(tmp_path.iterdir()) == []


def test_which_factors_make_the_tables_moves_no_key(config) -> None:
    def key(*words: str, verb: str) -> str:
        cfg = config(*words) | {"verb": verb}
        return pipeline.plan(cfg)[verb][0].key

    for verb, words in (("report", []), ("repair", ["ends=backdoored", "attack=none"])):
        assert key(*words, verb=verb) == key(*words, "report.rows=[curve]", "report.columns=[ends]", verb=verb)
        assert key(*words, verb=verb) != key(*words, "report.dpi=90", verb=verb)


@pytest.mark.parametrize(("accelerated", "said"), [(1.0, "BCa"), (0.0, "percentile")])
def test_the_file_of_barriers_has_the_interval_in_the_units_of_its_rows(accelerated: float, said: str) -> None:
    found = {**statistics(0.5, 0.25, 0.125), "interior_se": 0.02, "interior_t": 0.5, "interior_bca": accelerated}
    summary = {"test_error": found | {"interior_low": 0.1, "interior_high": 0.175}}
    counts = {"test_accuracy": {"images": 7, "data": "test"}}
    (row,) = document.barrier_records("path", METRICS[1:2], summary, ["start", "end"], counts)
    assert (row["above highest end"], row["at"]) == ("+12.5 ± 2.0", "0.50")
    assert (row["low"], row["high"], row["interval"]) == ("+10.0", "+17.5", said)
