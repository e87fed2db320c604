"""Write a path's report."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcr.evaluation.table import PathTable, write_csv
from mcr.reports import document, figures, robustness, together
from mcr.reports.claims import Verdict, judge
from mcr.reports.document import Metrics
from mcr.stages.artifacts import CURVATURE, GUARD, RELATIONS
from mcr.stages.context import Context
from mcr.store import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """figure.png and .svg, the tables along t, the points together, report.md, summary.json."""
    title, config, names = stage.config["title"], stage.config["report"], _names(stage)
    walked: dict[str, Path] = {role: inputs[role] for role in ("path", "reference") if role in inputs}
    tables = {role: PathTable.read_csv(place / "path.csv") for role, place in walked.items()}
    found = {role: json.loads((place / "summary.json").read_text()) for role, place in walked.items()}
    beside = {
        role: json.loads((inputs[role] / name).read_text())
        for role, name in (("guard", GUARD), ("relations", RELATIONS))
        if role in inputs
    }
    note = robustness.correlation_note(found["path"]["correlations"])
    panel = figures.Panel(title, tables["path"], tables.get("reference"), note)
    drawn = {"figure": figures.path_figure([panel], names.get("reference", ""))}
    if "relations" in beside:
        drawn["relations"] = together.relations_figure(beside["relations"])
    for name, figure in drawn.items():
        figures.save(figure, folder, name, config["formats"], config["dpi"])
    rows = [row for role in walked for row in document.barrier_rows(names[role], found[role]["metrics"])]
    write_csv(folder / "barriers.csv", [dict(zip(document.BARRIER_COLUMNS, row, strict=True)) for row in rows])
    for role, place in walked.items():
        shutil.copyfile(place / "path.csv", folder / f"{role}.csv")
    if "curvature" in found["path"]:
        shutil.copyfile(inputs["path"] / CURVATURE, folder / CURVATURE)
    judged = _judged(stage, names, found, beside)
    with (inputs["path"] / "ends.csv").open(newline="") as stream:
        ends = list(csv.DictReader(stream))
    warnings = robustness.warnings(beside)
    sections = [f"# {title}\n", *robustness.warning_lines(warnings), "![metrics along the path](figure.png)\n"]
    sections.append(document.barrier_section(rows))
    sections += [document.claims_section(judged)] if judged else []
    sections += robustness.sections(found["path"], beside)
    sections += ["![points of the path together](relations.png)\n"] if "relations" in drawn else []
    for role, table in tables.items():
        sections.append(document.path_section(names[role].capitalize(), table, found[role]["path_length"]))
    sections.append(document.ends_section(ends))
    (folder / "report.md").write_text("\n".join(sections))
    summary = {
        "title": title,
        "claims": [vars(verdict) for _, verdict in judged],
        "warnings": warnings,
        "curve": found["path"],
        **({"reference": {"name": names["reference"], **found["reference"]}} if "reference" in found else {}),
        **({"beside": beside} if beside else {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def _judged(
    stage: Stage, names: Mapping[str, str], found: Mapping[str, Any], beside: Mapping[str, Any]
) -> list[tuple[str, Verdict]]:
    """The claims about paths with their verdicts, under the name of the path that each is about."""
    known = {role: {**one["metrics"], **one["correlations"]} for role, one in found.items()}
    for one in beside.values():
        known["path"] |= one["metrics"]
    judged = []
    for claim in stage.config["claims"]:
        role = _about(claim, stage)
        if "repair" in claim or role not in known:
            continue
        if "against" in claim:
            if "reference" not in known:
                continue
            verdict = judge(claim, _differences(known["path"], known["reference"]))
            said = f", less that of the {names['reference']}"
        else:
            verdict, said = judge(claim, known[role]), ""
        if verdict is not None:
            # A sweep's report names the job, so that the statement has to say whose path it is about.
            whose = "" if role == "path" else f"{names[role]}: "
            judged.append((names[role], replace(verdict, statement=f"{whose}{verdict.statement}{said}")))
    return judged


def _differences(path: Metrics, reference: Metrics) -> dict[str, dict[str, float]]:
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


def _about(claim: Mapping[str, Any], stage: Stage) -> str:
    """The role of the path that a claim is about: the fitted one, or the attacker's where there is one."""
    if claim.get("of") != "attacker":
        return "path"
    return "reference" if "reference" in stage.needs and _attackers(stage.needs["reference"]) else ""


def _attackers(evaluation: Stage) -> bool:
    return "free_ends" in evaluation.needs["path"].config


def _names(stage: Stage) -> dict[str, str]:
    """Role to what the report calls it."""
    names = {"path": "curve"}
    if "reference" in stage.needs:
        module = stage.needs["reference"].config["curve"]["_target_"].split(".")[-2]
        names["reference"] = "straight line" if module == "linear" else f"{module} reference"
        own, other = (_objective(stage.needs[role]) for role in ("path", "reference"))
        if own and other and own != other:
            names["reference"] = f"{other} connection"
        if _attackers(stage.needs["reference"]):
            names["reference"] = "attacker's path"
    return names


def _objective(evaluation: Stage) -> str:
    """What the path of an evaluation was fitted with, as people call it; empty where nothing was."""
    recipe = evaluation.needs["path"].config.get("recipe")
    if recipe is None:
        return ""
    module = recipe["objective"]["_target_"].split(".")[-2]
    return "regular" if module == "cross_entropy" else str(module)
