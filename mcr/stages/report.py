"""Write the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measured
from mcr.evaluation.table import write_csv
from mcr.reports import (
    captions,
    corners,
    curvature,
    document,
    figures,
    images,
    merged,
    robustness,
    soundness,
    surface_figures,
    together,
)
from mcr.reports.space import Space
from mcr.stages import ends as known_ends
from mcr.stages import merged as merging
from mcr.stages import own_images, verdicts
from mcr.stages.artifacts import PRECHECK, SUMMARY, read_spec
from mcr.stages.context import Context
from mcr.stages.verdicts import FITTED, STRONGER
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.text import markdown_cell

REPORTED = "robust_accuracy"  # what stronger attacks are compared with

SHADED = (
    "Shaded: ± one standard error over images. Dotted: the level of the highest end. Dashed: what is compared with."
)
MAPS = (
    "Bright: worse. One scale of colours for the fitted surface and what it is compared with; the contours are each "
    "map's own. Cross: the worst place. Dashed: the path of least loss that gains most over the straight one."
)


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """figure.png and .svg, the tables of each subspace, the points together, report.md, summary.json."""
    config = stage.config
    bootstrap = Bootstrap(config["statistics"]["draws"], config["statistics"]["level"])
    measured = {
        name: Measured(label, merging.measures(stage, inputs, name)) for name, label in config["labels"].items()
    }
    fitted = measured[FITTED]
    ends = fitted.grid.ends
    told = [STRONGER] if REPORTED in fitted.metrics else []
    spaces = {
        name: Space.of(one, told if name == FITTED else [], config["statistics"]["correlations"], bootstrap)
        for name, one in measured.items()
    }
    asked = {
        probe if name == FITTED else f"{probe}, {one.label}": found
        for name, one in measured.items()
        for probe, found in one.measures.items()
        if found.together
    }
    stronger = robustness.stronger(fitted, STRONGER, REPORTED) if told and STRONGER in fitted.measures else []
    statistics = {probe: one.statistics for probe, one in asked.items()}
    networks = _ends(stage, inputs, fitted)
    doubts, stopped = soundness.doubts(networks, config["soundness"]), known_ends.stopped(inputs)
    infinite = dict.fromkeys(line for one in measured.values() for line in robustness.infinite(one))
    warnings = [*_given(inputs), *stopped, *known_ends.faults(inputs), *soundness.warnings(doubts), *infinite]
    warnings += [*robustness.warnings(stronger, statistics), *_unknown(statistics)]
    merges = merging.merges(stage, inputs)
    if merges:
        warnings += merged.warnings(merges, config["merges"]["far"])
        statistics = {**statistics, merged.NAME: merged.known(merges)}
        write_csv(folder / "merges.csv", merged.records(merges))
    networks_joined = corners.networks(fitted)
    warnings += corners.near(networks_joined, config["soundness"]["apart"])
    related, table = spaces[FITTED].related, spaces[FITTED].tables[""]
    path = len(table.coordinates) == 1
    notes = {metric.label: robustness.correlation_note(related, metric.name) for metric in table.metrics}
    references = [figures.Line(one.measured.label, one.tables[""]) for name, one in spaces.items() if name != FITTED]
    panel = figures.Panel(config["title"], table, references, notes, errors=fitted.errors())
    said = images.spoken(fitted.counts, [metric.name for metric in table.metrics if metric.label])
    attack = _attack(stage)
    drawn = {"figure": _drawn(panel, captions.settings([config["title"]], [attack], said), spaces[FITTED])}
    if asked:
        drawn["together"] = together.together_figure(asked)
    for name, figure in drawn.items():
        figures.save(figure, folder, name, config["report"]["formats"], config["report"]["dpi"])
    rows, records, tables = [], [], []
    for name, one in spaces.items():
        counts = one.measured.counts
        rows += document.barrier_rows(one.measured.label, one.metrics, one.summary, ends)
        records += document.barrier_records(one.measured.label, one.metrics, one.summary, ends, counts)
        for suffix, found in one.tables.items():
            found.write(folder, f"{name}{suffix}")
            tables.append(document.path_section(one.parts[suffix].label.capitalize(), found, counts))
    write_csv(folder / "barriers.csv", records)
    spread, given = spaces[FITTED].spread(), spaces[FITTED].given()
    if spread:
        write_csv(folder / "spread.csv", spread)
    write_csv(folder / "ends.csv", given)
    known = {name: one.known for name, one in spaces.items()}
    known[FITTED] |= {**statistics, **verdicts.strongest(stronger)}
    judged = verdicts.judged(stage, measured, known, doubts)
    counted = images.line(
        [(one.measured.label, images.spoken(one.measured.counts, _names(one))) for one in spaces.values()]
    )
    sections = [f"# {markdown_cell(config['title'])}\n", *robustness.warning_lines(warnings)]
    where, explained = ("along the path", SHADED) if path else ("over the surface", MAPS)
    sections += [f"![metrics {where}](figure.png)\n", f"{explained}\n"]
    sections += [document.claims_section(judged)] if judged else []
    sections += [document.barrier_section(rows, [counted])]
    shown = [metric for metric in spaces[FITTED].metrics if metric.label and metric.name not in fitted.fitted]
    sections += [corners.routes_section(shown, spaces[FITTED].routes)] if any(spaces[FITTED].routes.values()) else []
    sections += [robustness.stronger_section(stronger)] if stronger else []
    sections += [robustness.correlation_section(related, fitted.counts)] if related else []
    sections += curvature.sections(fitted)
    sections += [robustness.together_section(probe, one) for probe, one in asked.items()]
    sections += ["![points of the path together](together.png)\n"] if asked else []
    sections += [merged.section(merges)] if merges else []
    sections += [corners.distances_section(networks_joined), corners.nearest_line(list(measured.values()))]
    sections += [*tables, document.ends_section(given, fitted.counts)]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    summary = {
        "title": config["title"],
        "ends": ends,
        "claims": [vars(verdict) for _, verdict in judged],
        "warnings": warnings,
        "stopped": stopped,
        "doubts": [vars(doubt) for doubt in doubts],
        "networks": [asdict(network) for network in networks],
        "subspaces": {name: one.describe() for name, one in spaces.items()},
        "together": statistics,
        "stronger": stronger,
        "attack": attack,
    }
    jsonfile.write(folder / SUMMARY, summary)


def _names(one: Space) -> list[str]:
    return [metric.name for metric in one.metrics if metric.label]


def _ends(stage: Stage, inputs: Mapping[str, Path], fitted: Measured) -> list[soundness.End]:
    """The networks that the path joins."""
    needs = {
        role.removeprefix(f"{FITTED}/"): need for role, need in stage.needs.items() if role.startswith(f"{FITTED}/")
    }
    first = next(iter(needs.values()))
    folder = next(iter(inputs.values())).parent.parent
    classes = len(read_spec(folder / first.needs["data"].name / first.needs["data"].key).classes)
    asked = {probe: needs[probe].config for probe in fitted.along}
    return [
        known_ends.end(name, first.needs[f"end {index}"], asked, classes, known_ends.scores_of(fitted, needs, corner))
        for index, (name, corner) in enumerate(zip(fitted.grid.ends, fitted.grid.corners, strict=True))
    ]


def _drawn(panel: figures.Panel, settings: str, space: Space) -> Any:
    """The figure that fits the number of coordinates."""
    if len(panel.table.coordinates) == 1:
        return figures.path_figure([panel._replace(title=panel.title.partition(": ")[2])], settings)
    routes = {metric.name: corners.steepest(space.routes.get(metric.cost, ())) for metric in space.metrics}
    return surface_figures.surface_figure(panel, routes, settings)


def _attack(stage: Stage) -> Mapping[str, Any]:
    """The ball of the attack that the path was measured under; empty where nobody attacks."""
    probes = [need.config["probe"] for role, need in stage.needs.items() if role.startswith(f"{FITTED}/")]
    found: Mapping[str, Any] = next((probe["attack"] for probe in probes if "attack" in probe), {})
    return {name: found[name] for name in captions.BALL if name in found}


def _given(inputs: Mapping[str, Path]) -> list[str]:
    """What was seen of the user's networks and images before anything was made with them."""
    own = own_images.warnings(inputs) if "data" in inputs else []
    checked = jsonfile.read(inputs["precheck"] / PRECHECK)["warnings"] if "precheck" in inputs else []
    return [*checked, *own]


def _unknown(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Numbers over several networks that have no value, such as the cosine of gradients that are zero."""
    return [
        f"{probe}: {name} has no value on these images"
        for probe, numbers in statistics.items()
        for name, value in numbers.items()
        if isinstance(value, float) and isnan(value) and not name.endswith("_se")
    ]
