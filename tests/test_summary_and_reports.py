"""Barriers by hand, claims, tables, figures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mcr.app import terminal
from mcr.errors import InputError
from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import Grid, over_replicates, summarize
from mcr.evaluation.table import Table, markdown
from mcr.metric import Metric
from mcr.reports import document, figures
from mcr.reports.claims import Verdict, judge, told
from mcr.reports.figures import Line, Panel

T = [0.0, 0.25, 0.5, 0.75, 1.0]
BOOTSTRAP = Bootstrap(200, 0.95)
LOSS = Metric("test_loss", "nats", "lower", "clean loss")
ACCURACY = Metric("test_accuracy", "share", "higher", "accuracy")
# Nobody has heard of it: no list anywhere names it.
ODD = Metric("odd_charm", "share", "higher", "charm")


def path(arc=(0, 1, 2, 3, 4), ends=("start", "end")) -> Grid:
    places = np.array(T)[:, None]
    return Grid(("t",), places, np.hstack([1 - places, places]), ends, np.array(arc, dtype=float))


def summary(values, arc=(0, 1, 2, 3, 4)):
    return summarize(path(arc), {"loss": np.asarray(values, dtype=float)}, BOOTSTRAP)["loss"]


def test_a_barrier_by_hand() -> None:
    per_image = np.array([[1, 3], [2, 4], [5, 7], [2, 2], [0, 2]])  # means 2, 3, 6, 2, 1
    found = summary(per_image, arc=(0, 1, 3, 3.5, 5))
    assert (found["start"], found["end"], found["max"], found["worst_t"]) == (2, 1, 6, 0.5)
    assert found["barrier"] == found["interior"] == 4
    assert found["barrier_se"] == 0  # both images rise by 4
    assert found["barrier_above_line"] == 6 - 1.5
    # excess over the line 2, 1.75, 1.5, 1.25, 1: 0, 1.25, 4.5, 0.75, 0
    assert found["area"] == pytest.approx(0.25 * (1.25 + 4.5 + 0.75))
    # Weighted by uneven steps of arc length 1, 2, 0.5, 1.5.
    steps = 1 * (2 + 3) / 2 + 2 * (3 + 6) / 2 + 0.5 * (6 + 2) / 2 + 1.5 * (2 + 1) / 2
    assert found["length_mean"] == pytest.approx(steps / 5)


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


def test_a_surface_against_a_slow_computation() -> None:
    """Four ends at the corners of a grid of 3 x 3 places, the bilinear blend between them."""
    axis = [0.0, 0.5, 1.0]
    places = np.array(list(itertools.product(axis, axis)))
    shares = np.array([[(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v] for u, v in places])
    values = np.random.default_rng(1).normal(1, 0.3, (9, 7)) + np.arange(9)[:, None] % 4
    grid = Grid(("u", "v"), places, shares, ("a", "b", "c", "d"), np.empty(0))
    found = summarize(grid, {"loss": values}, BOOTSTRAP)["loss"]
    mean = values.mean(1)
    corners = {"a": 0, "b": 2, "c": 6, "d": 8}
    assert {name: found[name] for name in corners} == pytest.approx({name: mean[i] for name, i in corners.items()})
    inner = max((index for index in range(9) if index not in corners.values()), key=lambda index: mean[index])
    highest = max(mean[index] for index in corners.values())
    assert found["interior"] == pytest.approx(mean[inner] - highest)
    assert [found["interior_u"], found["interior_v"]] == places[inner].tolist()
    blend = [sum(w * mean[i] for w, i in zip(row, corners.values(), strict=True)) for row in shares]
    excess = [max(0.0, m - b) for m, b in zip(mean, blend, strict=True)]
    assert found["area"] == pytest.approx(sum(excess) / 9)
    assert found["barrier_above_line"] == pytest.approx(max(m - b for m, b in zip(mean, blend, strict=True)))
    assert "length_mean" not in found


def test_the_spread_over_replicates() -> None:
    found = over_replicates([1.0, 2.0, 6.0], 0.95)
    assert (found["replicates"], found["mean"], found["min"], found["max"]) == (3, 3.0, 1.0, 6.0)
    assert found["se"] == pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert over_replicates([1.0, 2.0, 6.0], 0.5)["high"] < found["high"]
    text = document.replicates_section({"bezier": {"test_error": found}}, {"test_error": ACCURACY})
    assert "+300.0 ± 152.8" in text


def measured(*metrics: Metric) -> Measured:
    """One probe with these metrics along a path, three images."""
    values = {metric.name: np.random.default_rng(0).random((5, 3)) for metric in metrics}
    rows = tuple({"t": t, "arc_length": 4 * t} for t in T)
    given = {metric.name: [0.25, 0.75] for metric in metrics}
    return Measured("curve", {"odd": Measure(metrics, path(), rows, values, given, 3, {}, "test")})


def test_accuracies_become_errors() -> None:
    found = measured(ACCURACY, LOSS)
    costs = found.costs()
    assert costs["test_error"] == pytest.approx(1 - found.measures["odd"].values["test_accuracy"])
    assert costs["test_loss"] == pytest.approx(found.measures["odd"].values["test_loss"])


def test_a_metric_that_nobody_has_heard_of_is_told_everywhere(capsys) -> None:
    one = measured(LOSS, ODD)
    table, costs = one.table(), one.costs()
    assert ODD.cost in costs
    found = summarize(one.grid, costs, BOOTSTRAP)
    assert "odd charm %" in document.path_rows(table)[0]
    rows = document.barrier_rows("curve", table.metrics, found, ("start", "end"))
    assert [row[1] for row in rows] == ["test loss", "lack of odd charm %"]
    figure = figures.path_figure([Panel("one", table, [], {})])
    assert [axis.get_ylabel() for axis in figure.axes] == ["clean loss", "charm %"]
    spaces = {"path": {"label": "curve", "table": table.describe(), "apart": {}, "metrics": found, "correlations": {}}}
    summary = {"ends": ["start", "end"], "subspaces": spaces, "warnings": []}
    terminal.print_results([("run", summary)], [], {})
    assert "lack of odd charm %" in capsys.readouterr().out
    assert {row["end"] for row in one.given()} == {"start", "end"}
    assert one.given()[0]["odd_charm"] == 0.25


@pytest.mark.parametrize("values", [[[1.0], [2], [5], [2], [3]], [[3.0], [2], [5], [2], [1]]])
def test_the_highest_inside_is_the_rise_above_the_highest_end_whichever_that_is(values) -> None:
    found = {"test_loss": summary(np.array(values))}
    (row,) = document.barrier_rows("curve", [LOSS], found, ("start", "end"))
    assert row[2] == f"{values[0][0]:.3f} / {values[-1][0]:.3f}"
    assert row[3:6] == ["5.000", "0.50", "+2.000"]
    counts = {"test_loss": {"probe": "test", "images": 1, "data": "validation"}}
    (record,) = document.barrier_records("curve", [LOSS], found, ("start", "end"), counts)
    assert (record["images"], record["data"]) == (1, "validation")
    assert (record["start"], record["end"]) == (f"{values[0][0]:.3f}", f"{values[-1][0]:.3f}")


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


def table(bump: float, robust: bool = True) -> Table:
    rows = []
    metrics = [Metric("train_loss", "nats", "lower", "clean loss"), LOSS, ACCURACY]
    for index, t in enumerate(T):
        loss = 1 + bump * t * (1 - t)
        row = {"t": t, "arc_length": float(index), "train_loss": loss, "test_loss": loss, "test_accuracy": 0.5}
        rows.append(row | ({"robust_loss": 2 * loss, "robust_accuracy": 0.25} if robust else {}))
    if robust:
        metrics.append(Metric("robust_loss", "nats", "lower", "robust loss"))
        metrics.append(Metric("robust_accuracy", "share", "higher", "accuracy"))
    return Table(("t",), tuple(metrics), tuple(rows), frozenset({"train_loss"}))


def test_a_table_survives_the_file(tmp_path: Path) -> None:
    one = table(2)
    one.write(tmp_path, "path")
    assert Table.read(tmp_path, "path", one.describe()) == one


@pytest.mark.drawn
def test_figures_hold_what_they_should(tmp_path: Path) -> None:
    beside = [Line("straight line", table(4))]
    figure = figures.path_figure([Panel("one", table(2), beside, {}), Panel("two", table(0, robust=False), [], {})])
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:2]] == ["one", "two"]
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["clean loss", "accuracy %", "robust loss"]
    robust = figure.axes[4].get_lines()
    assert robust[0].get_ydata().tolist() == [2 * (1 + 2 * t * (1 - t)) for t in T]
    # The fitted images are context: no level, no straight line.
    assert len(figure.axes[0].get_lines()) == 1 + 3
    assert len(figures.path_figure([Panel("one", table(2, robust=False), [], {})]).axes) == 2
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    again = [figures.path_figure([Panel("one", table(2), beside, {})]) for _ in range(2)]
    folders = (tmp_path / "a", tmp_path / "b")
    one, two = (figures.save(f, p, "figure", ["png", "svg"], 50) for f, p in zip(again, folders, strict=True))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_markdown_aligns() -> None:
    text = markdown(["name", "x"], [["a", "1.0"], ["long name", "12.0"]])
    assert len({len(line) for line in text.splitlines()}) == 1


SURFACE = ("first", "second", "third", "fourth")


@pytest.mark.parametrize("beside", [("straight line",), ("straight line", "regular connection")], ids=len)
@pytest.mark.parametrize("ends", [("start", "end"), SURFACE], ids=len)
def test_what_a_run_says_fits_eighty_columns_and_nothing_of_it_is_cut(ends, beside, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    metrics = [
        Metric("train_loss", "nats", "lower", "clean loss"),
        Metric("robust_accuracy", "share", "higher", "accuracy"),
        Metric("input_eigenvalue", "1", "lower", "input eigenvalue"),
        Metric("attack_success", "share", "lower", "attack success"),
    ]
    where = {"interior_t": 0.55} if len(ends) == 2 else {"interior_u": 0.25, "interior_v": 1.0}
    values = {"interior": -0.125, "interior_se": 0.25, "barrier_above_line": 1.0, "area": 0.5, **where}
    values |= {name: 0.5 + 0.125 * (index % 3) for index, name in enumerate(ends)}
    found = {metric.cost: values for metric in metrics}
    labels = dict(zip(("path", "straight", "regular"), ("curve", *beside), strict=False))
    told = {"metrics": [vars(metric) for metric in metrics]}
    spaces = {
        name: {"label": label, "table": told, "apart": {}, "metrics": found, "correlations": {}}
        for name, label in labels.items()
    }
    terminal.print_results([("run", {"ends": list(ends), "subspaces": spaces, "warnings": []})], [], {})
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in text
    for metric in metrics:
        (line,) = (line for line in lines if line.startswith(metric.title(metric.cost)))
        highest, shown = 0.5 + 0.125 * min(2, len(ends) - 1), metric.text(0.5)
        ends_shown = f"{shown} / {metric.text(0.625)}" if len(ends) == 2 else metric.text(highest)
        place = "0.55" if len(ends) == 2 else "0.25 1.00"
        rise = f"{metric.text(-0.125, '+')} ± {metric.text(0.25)}"
        expected = [ends_shown, metric.text(highest - 0.125), place, rise, *[metric.text(-0.125, "+")] * len(beside)]
        assert line.split() == " ".join([metric.title(metric.cost), *expected]).split()
    assert ("ends" in text.split()) == (len(ends) == 2)
    for label in beside:
        assert all(word in text.split() for word in label.split())


def test_a_probe_has_one_colour_and_its_whole_name_in_every_panel_of_the_figure() -> None:
    described = [Metric("loss", "nats", "lower", "loss"), Metric("accuracy", "share", "higher", "accuracy")]
    success = Metric("rate", "share", "lower", "accuracy")
    metrics = (*(metric.of(probe) for probe in ("clean", "attack_a", "attack_b") for metric in described[:1]),)
    metrics += (*(described[1].of(probe) for probe in ("attack_b", "clean")), success.of("attack_a"))
    rows = tuple({"t": t, **{metric.name: 0.5 + t for metric in metrics}} for t in (0.0, 0.5, 1.0))
    figure = figures.path_figure([figures.Panel("", Table(("t",), metrics, rows, frozenset()), [], {})])
    found: dict[str, set[str]] = {}
    for axis in figure.axes:
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, set()).add(str(line.get_color()))
    assert set(found) == {"clean", "attack a", "attack b"}
    assert all(len(colours) == 1 for colours in found.values())
    assert len(set.union(*found.values())) == len(found)


def verdict(source: str, measured: float, held: bool) -> Verdict:
    return Verdict(
        source, "loss barrier <= 0.02 by 2 standard errors over images (0.100), less that of the line", measured, held
    )


def test_what_held_is_said_first_then_what_did_not_and_where() -> None:
    found = [
        ("a", verdict("E1, it is so", 0.5, False)),
        ("a", verdict("E2, it is flat", 0.01, True)),
        ("b", verdict("E1, it is so", 0.25, True)),
        ("b", verdict("E2, it is flat", 0.0, True)),
        ("c", verdict("E1, it is so", 0.75, False)),
        ("a", verdict("alone", 0.0, True)),
    ]
    asked = "asked is loss barrier <= 0.02 by 2 standard errors over images, less that of the line"
    assert told(found) == [
        ("held", "it is flat, in all 2"),
        ("held", "alone"),
        ("did not hold", f"it is so, in 1 of 3: a 0.500, c 0.750; {asked}"),
    ]
    text = document.claims_section(found)
    assert text.index("**held**") < text.index("**did not hold**") < text.index("| path")
    assert text.count("\n| ") == 2 + len(found)


def test_a_repair_and_repairs_side_by_side_tell_first_what_held(capsys) -> None:
    claims = [Verdict("E6, less of the backdoor is left", "attack_success after < 0.1", 0.25, held=False)]
    claims += [Verdict("E4, the accuracy is kept", "clean_accuracy lost <= 0.05", 0.01, held=True)]
    summary = {
        "title": "digits, path point with 50 clean images",
        "repair": "path_point",
        "ends": ["start", "end"],
        "metrics": {"clean_accuracy": {"start": 0.9, "end": 0.8, "after": 0.89}},
        "descriptions": {"clean_accuracy": vars(ACCURACY)},
        "chosen": {"repair": "path_point", "t": 0.25, "accuracy": 0.9, "estimated_success": 0.25},
        "taken": {"how": "refitted", "estimated_success": 0.125},
        "suspicion": {"masks": {"tells": True}},
        "warnings": ["few images"],
        "claims": [vars(claim) for claim in claims],
    }
    failed = "did not hold  less of the backdoor is left: path point 0.250; asked is attack_success after < 0.1"
    terminal.print_repair(summary, {"card": "card.md"})
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("held          the accuracy is kept") == lines.index(failed) - 1
    assert "chosen on held-out clean images: t 0.25 (made once more, on all clean images)" in lines
    assert "estimated share of a hidden attack that is left: 12.5 %" in lines
    assert "warning: few images" in lines
    terminal.print_comparison([], [("N = 50", claims[0]), ("N = 9", claims[1])], {"figure": "f.png"})
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("held          the accuracy is kept") < lines.index(failed.replace("path point", "N = 50"))


def test_the_mean_of_tables_is_number_by_number_and_of_the_same_places_only() -> None:
    one, two = table(2), table(5)
    mean = Table.mean([one, two, two])
    assert mean.column("test_loss") == pytest.approx([1 + 4 * t * (1 - t) for t in T])
    assert mean.column("t") == pytest.approx(T)
    assert mean.metrics == one.metrics
    assert Table.mean([one, table(5, robust=False)]).metrics == table(0, robust=False).metrics
    moved = Table(one.coordinates, one.metrics, tuple({**row, "t": row["t"] / 2} for row in one.rows), one.fitted)
    with pytest.raises(ValueError, match="different places"):
        Table.mean([one, moved])


def test_a_figure_shades_the_range_over_seeds() -> None:
    seeds = [table(1), table(4), table(2)]
    panel = Panel("one, 3 seeds", Table.mean(seeds), [Line("straight line", table(4))], {}, seeds)
    axis = figures.path_figure([panel]).axes[0]
    (shade,) = axis.collections  # of the test images; those of the fit are context
    places = {tuple(vertex) for vertex in shade.get_paths()[0].vertices.round(6).tolist()}
    for t in T:
        for bump in (1, 4):
            assert (round(t, 6), round(1 + bump * t * (1 - t), 6)) in places
    assert not figures.path_figure([Panel("one", table(1), [], {})]).axes[0].collections


def test_several_seeds_are_told_by_their_mean_and_range_in_eighty_columns(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    spread = {"long name of a path": {"test_error": over_replicates([0.5, 0.25, 0.125], 0.95)}}
    warned, verdicts = ["odd"], [("a", verdict("E2, it is flat", 0.01, True))]
    terminal.print_replicates(spread, {"test_error": ACCURACY}, warned, verdicts, {"figure": "f.png"})
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "long name of a path, 3 seeds" in lines
    (row,) = (line.split() for line in lines if line.startswith("test error %"))
    assert row == ["test", "error", "%", "+29.2", "±", "11.0", "+12.5", "+50.0"]
    assert lines.index("warning: odd") < lines.index("held          it is flat") < lines.index("figure   f.png")
