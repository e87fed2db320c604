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
from mcr.reports import document, figures
from mcr.reports.claims import judge
from mcr.stages.context import Context
from mcr.store import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """figure.png and .svg, path.csv, reference.csv, barriers.csv, report.md, summary.json."""
    title, config, names = stage.config["title"], stage.config["report"], _names(stage)
    tables = {role: PathTable.read_csv(place / "path.csv") for role, place in inputs.items()}
    found = {role: json.loads((place / "summary.json").read_text()) for role, place in inputs.items()}
    figures.save(
        figures.path_figure([(title, tables["path"], tables.get("reference"))], names.get("reference", "")),
        folder,
        "figure",
        config["formats"],
        config["dpi"],
    )
    rows = [row for role in inputs for row in document.barrier_rows(names[role], found[role]["metrics"])]
    write_csv(folder / "barriers.csv", [dict(zip(document.BARRIER_COLUMNS, row, strict=True)) for row in rows])
    for role, place in inputs.items():
        shutil.copyfile(place / "path.csv", folder / f"{role}.csv")
    verdicts = [
        (names[role], judge(claim, found[role]["metrics"]))
        for claim in stage.config["claims"]
        if "repair" not in claim and (role := _about(claim, stage)) in found
    ]
    # A sweep's report names the job, so that the statement has to say whose path it is about.
    judged = [
        (name, verdict if name == "curve" else replace(verdict, statement=f"{name}: {verdict.statement}"))
        for name, verdict in verdicts
        if verdict is not None
    ]
    with (inputs["path"] / "ends.csv").open(newline="") as stream:
        ends = list(csv.DictReader(stream))
    sections = [f"# {title}\n", "![metrics along the path](figure.png)\n", document.barrier_section(rows)]
    sections += [document.claims_section(judged)] if judged else []
    for role, table in tables.items():
        sections.append(document.path_section(names[role].capitalize(), table, found[role]["path_length"]))
    sections.append(document.ends_section(ends))
    (folder / "report.md").write_text("\n".join(sections))
    summary = {
        "title": title,
        "claims": [vars(verdict) for _, verdict in judged],
        "curve": found["path"],
        **({"reference": {"name": names["reference"], **found["reference"]}} if "reference" in found else {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


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
        if _attackers(stage.needs["reference"]):
            names["reference"] = "attacker's path"
    return names
