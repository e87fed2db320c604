"""Write the report of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import summarize
from mcr.evaluation.table import write_csv
from mcr.reports import document, figures, robustness, together
from mcr.reports.claims import Verdict, judge
from mcr.stages.artifacts import SUMMARY, TRAINING, write_json
from mcr.stages.context import Context
from mcr.stages.loggers import log_report
from mcr.store import Stage

FITTED = "path"  # the name of THE subspace of a run
STRONGER, REPORTED = "stronger", "robust_accuracy"  # the probe of stronger attacks, and what it is compared with


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """figure.png and .svg, the tables of each subspace, the points together, report.md, summary.json."""
    config = stage.config
    bootstrap = Bootstrap(config["statistics"]["draws"], config["statistics"]["level"])
    measured = {name: _read(stage, inputs, name, label) for name, label in config["labels"].items()}
    ends = measured[FITTED].grid.ends
    tables = {name: one.table() for name, one in measured.items()}
    told = [STRONGER] if REPORTED in measured[FITTED].metrics else []
    apart = {name: one.apart(told if name == FITTED else []) for name, one in measured.items()}
    summaries = {
        name: {
            metric: found
            for part in (one, *apart[name].values())
            for metric, found in summarize(part.grid, part.costs(), bootstrap).items()
        }
        for name, one in measured.items()
    }
    related = {
        name: robustness.correlated(one, config["statistics"]["correlations"], bootstrap)
        for name, one in measured.items()
    }
    asked = {
        probe if name == FITTED else f"{probe}, {one.label}": found
        for name, one in measured.items()
        for probe, found in one.measures.items()
        if found.together
    }
    stronger = (
        robustness.stronger(measured[FITTED], STRONGER, REPORTED)
        if told and STRONGER in measured[FITTED].measures
        else []
    )
    statistics = {probe: one.statistics for probe, one in asked.items()}
    warnings = [*_stopped(stage, inputs), *robustness.warnings(stronger, statistics)]
    notes = {
        metric.label: robustness.correlation_note(related[FITTED], metric.name)
        for metric in measured[FITTED].metrics.values()
    }
    references = [figures.Line(measured[name].label, table) for name, table in tables.items() if name != FITTED]
    panel = figures.Panel(config["title"], tables[FITTED], references, notes)
    drawn = {"figure": _drawn(panel)}
    if asked:
        drawn["together"] = together.together_figure(asked)
    for name, figure in drawn.items():
        figures.save(figure, folder, name, config["report"]["formats"], config["report"]["dpi"])
    beside = {name: {probe: part.table() for probe, part in parts.items()} for name, parts in apart.items()}
    rows, records = [], []
    for name, one in measured.items():
        metrics = [metric for table in (tables[name], *beside[name].values()) for metric in table.metrics]
        rows += document.barrier_rows(one.label, metrics, summaries[name], ends)
        records += document.barrier_records(one.label, metrics, summaries[name], ends)
        tables[name].write(folder, name)
        for probe, table in beside[name].items():
            table.write(folder, f"{name}_{probe}")
    write_csv(folder / "barriers.csv", records)
    spread = measured[FITTED].spread()
    if spread:
        write_csv(folder / "spread.csv", spread)
    known: dict[str, dict[str, Mapping[str, Any]]] = {name: {**summaries[name], **related[name]} for name in measured}
    known[FITTED] |= {**statistics, **_strongest(stronger)}
    judged = _judged(stage, measured, known)
    given = measured[FITTED].given()
    write_csv(folder / "ends.csv", given)
    sections = [
        f"# {config['title']}\n",
        *robustness.warning_lines(warnings),
        "![metrics along the path](figure.png)\n",
    ]
    sections.append(document.barrier_section(rows))
    sections += [document.claims_section(judged)] if judged else []
    sections += [robustness.stronger_section(stronger)] if stronger else []
    sections += [robustness.correlation_section(related[FITTED])] if related[FITTED] else []
    sections += [robustness.together_section(probe, one) for probe, one in asked.items()]
    sections += ["![points of the path together](together.png)\n"] if asked else []
    for name, one in measured.items():
        sections.append(document.path_section(one.label.capitalize(), tables[name]))
        for probe, part in apart[name].items():
            sections.append(document.path_section(part.label.capitalize(), beside[name][probe]))
    sections.append(document.ends_section(given))
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    summary = {
        "title": config["title"],
        "ends": ends,
        "claims": [vars(verdict) for _, verdict in judged],
        "warnings": warnings,
        "subspaces": {
            name: {
                "label": one.label,
                "table": tables[name].describe(),
                "apart": {probe: table.describe() for probe, table in beside[name].items()},
                "metrics": summaries[name],
                "correlations": related[name],
            }
            for name, one in measured.items()
        },
        "together": statistics,
        "stronger": stronger,
    }
    write_json(folder / SUMMARY, summary)
    log_report(stage, context, tables[FITTED], {**summaries[FITTED], **related[FITTED]}, drawn)


def _read(stage: Stage, inputs: Mapping[str, Path], name: str, label: str) -> Measured:
    """All measures of one subspace."""
    found = {}
    for role, need in stage.needs.items():
        if role.startswith(f"{name}/"):
            place = need.needs["place"]
            ends = tuple(place.config["ends"])
            folder = inputs[role].parent.parent / place.name / place.key
            found[role.split("/", 1)[1]] = Measure.read(inputs[role], folder, ends, need.config["data"] == "fitted")
    return Measured(label, found)


def _drawn(panel: figures.Panel) -> Any:
    """The figure that fits the number of coordinates."""
    return figures.path_figure([panel]) if len(panel.table.coordinates) == 1 else figures.surface_figure([panel])


def _stopped(stage: Stage, inputs: Mapping[str, Path]) -> list[str]:
    """Trainings that ended early: what they say changes every number of the report."""
    found = []
    for role, place in inputs.items():
        if role.startswith("training "):
            said = json.loads((place / TRAINING).read_text())["stopped"]
            if said:
                found.append(f"{role.removeprefix('training ')} ended early: {said}")
    return found


def _strongest(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The stronger attack with the largest advantage, as statistics that a claim may name."""
    if not rows:
        return {}
    worst = max(rows, key=lambda row: row["advantage"])
    return {STRONGER: {name: worst[name] for name in ("advantage", "advantage_se")}}


def _judged(
    stage: Stage, measured: Mapping[str, Measured], known: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[tuple[str, Verdict]]:
    """The claims about paths with their verdicts, under the name of the path that each is about."""
    judged = []
    for claim in stage.config["claims"]:
        name, other = claim.get("of", FITTED), claim.get("against")
        if "repair" in claim or name not in known or (other is not None and other not in known):
            continue
        if other is not None:
            verdict = judge(claim, _differences(known[name], known[other]))
            said = f", less that of the {measured[other].label}"
        else:
            verdict, said = judge(claim, known[name]), ""
        if verdict is not None:
            # A sweep's report names the job, so that the statement has to say whose path it is about.
            whose = "" if name == FITTED else f"{measured[name].label}: "
            judged.append((measured[name].label, replace(verdict, statement=f"{whose}{verdict.statement}{said}")))
    return judged


def _differences(
    path: Mapping[str, Mapping[str, float]], reference: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The path's statistics less the reference's, of what both have; a difference has no standard error here."""
    return {
        metric: {
            name: value - reference[metric][name]
            for name, value in values.items()
            if name in reference[metric] and not name.endswith("_se")
        }
        for metric, values in path.items()
        if metric in reference
    }
