"""Write the report of a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import summarize
from mcr.evaluation.table import Table, write_csv
from mcr.metric import Metric
from mcr.reports import document, figures, robustness, together
from mcr.reports.claims import Verdict, judge
from mcr.stages.artifacts import SUMMARY, TRAINING, write_json
from mcr.stages.context import Context
from mcr.stages.loggers import log_report
from mcr.store.stage import Stage

Summary = Mapping[str, Mapping[str, Any]]
FITTED = "path"  # the name of THE subspace of a run
STRONGER, REPORTED = "stronger", "robust_accuracy"  # the probe of stronger attacks, and what it is compared with


@dataclass(frozen=True)
class _Space:
    """What the report knows of one subspace.

    Attributes:
        measured: All that was asked.
        parts: What a file's name has after the subspace's, to what stands there: "" for the grid, "_PROBE" for a probe
            with places of its own.
        tables: The same as tables.
        summary: Cost to its statistics.
        related: Pair of metrics to its correlation.
    """

    measured: Measured
    parts: Mapping[str, Measured]
    tables: Mapping[str, Table]
    summary: Summary
    related: Summary

    @classmethod
    def of(cls, one: Measured, told: Collection[str], correlations: list[list[str]], bootstrap: Bootstrap) -> _Space:
        parts = {"": one, **{f"_{probe}": part for probe, part in one.apart(told).items()}}
        summaries = [summarize(part.grid, part.costs(), bootstrap) for part in parts.values()]
        return cls(
            one,
            parts,
            {suffix: part.table() for suffix, part in parts.items()},
            {metric: found for summary in summaries for metric, found in summary.items()},
            robustness.correlated(one, correlations, bootstrap),
        )

    @property
    def metrics(self) -> list[Metric]:
        return [metric for table in self.tables.values() for metric in table.metrics]

    @property
    def known(self) -> dict[str, Mapping[str, Any]]:
        """What a claim may name."""
        return {**self.summary, **self.related}

    def given(self) -> list[dict[str, Any]]:
        """The ends with their own BatchNorm statistics and with those of their place: one row each."""
        parts = zip(*(part.given() for part in self.parts.values()), strict=True)
        return [{name: value for row in rows for name, value in row.items()} for rows in parts]

    def spread(self) -> list[dict[str, Any]]:
        """Quantiles over images of what is neither a loss nor a share: one row a metric and place."""
        return [row for part in self.parts.values() for row in part.spread()]

    def describe(self) -> dict[str, Any]:
        """For summary.json."""
        described = {suffix.removeprefix("_"): table.describe() for suffix, table in self.tables.items()}
        return {
            "label": self.measured.label,
            "table": described.pop(""),
            "apart": described,
            "metrics": self.summary,
            "correlations": self.related,
        }


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """figure.png and .svg, the tables of each subspace, the points together, report.md, summary.json."""
    config = stage.config
    bootstrap = Bootstrap(config["statistics"]["draws"], config["statistics"]["level"])
    measured = {name: _read(stage, inputs, name, label) for name, label in config["labels"].items()}
    fitted = measured[FITTED]
    ends = fitted.grid.ends
    told = [STRONGER] if REPORTED in fitted.metrics else []
    spaces = {
        name: _Space.of(one, told if name == FITTED else [], config["statistics"]["correlations"], bootstrap)
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
    warnings = [*_stopped(stage, inputs), *robustness.warnings(stronger, statistics)]
    related, table = spaces[FITTED].related, spaces[FITTED].tables[""]
    notes = {metric.label: robustness.correlation_note(related, metric.name) for metric in table.metrics}
    references = [figures.Line(one.measured.label, one.tables[""]) for name, one in spaces.items() if name != FITTED]
    drawn = {"figure": _drawn(figures.Panel(config["title"], table, references, notes))}
    if asked:
        drawn["together"] = together.together_figure(asked)
    for name, figure in drawn.items():
        figures.save(figure, folder, name, config["report"]["formats"], config["report"]["dpi"])
    rows, records, tables = [], [], []
    for name, one in spaces.items():
        rows += document.barrier_rows(one.measured.label, one.metrics, one.summary, ends)
        records += document.barrier_records(one.measured.label, one.metrics, one.summary, ends)
        for suffix, found in one.tables.items():
            found.write(folder, f"{name}{suffix}")
            tables.append(document.path_section(one.parts[suffix].label.capitalize(), found))
    write_csv(folder / "barriers.csv", records)
    spread, given = spaces[FITTED].spread(), spaces[FITTED].given()
    if spread:
        write_csv(folder / "spread.csv", spread)
    write_csv(folder / "ends.csv", given)
    known = {name: one.known for name, one in spaces.items()}
    known[FITTED] |= {**statistics, **_strongest(stronger)}
    judged = _judged(stage, measured, known)
    sections = [f"# {config['title']}\n", *robustness.warning_lines(warnings)]
    sections += ["![metrics along the path](figure.png)\n"]
    sections += [document.claims_section(judged)] if judged else []
    sections += [document.barrier_section(rows)]
    sections += [robustness.stronger_section(stronger)] if stronger else []
    sections += [robustness.correlation_section(related)] if related else []
    sections += [robustness.together_section(probe, one) for probe, one in asked.items()]
    sections += ["![points of the path together](together.png)\n"] if asked else []
    sections += [*tables, document.ends_section(given)]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    summary = {
        "title": config["title"],
        "ends": ends,
        "claims": [vars(verdict) for _, verdict in judged],
        "warnings": warnings,
        "subspaces": {name: one.describe() for name, one in spaces.items()},
        "together": statistics,
        "stronger": stronger,
    }
    write_json(folder / SUMMARY, summary)
    log_report(stage, context, table, spaces[FITTED].known, drawn)


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
            said = json.loads((place / TRAINING).read_text(encoding="utf-8"))["stopped"]
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
