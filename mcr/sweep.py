"""The end of a multirun: one table and one figure over its jobs, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from mcr import run
from mcr.errors import STATUS_FAILED
from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import PathTable, write_csv
from mcr.reports import document, figures, repairs, robustness
from mcr.reports.claims import Verdict
from mcr.terminal import print_comparison, print_results


def finish(folder: Path, count: int) -> int:
    """Write the joint report of a sweep's ``count`` jobs and print it; returns the exit status.

    Jobs whose verb stops before the report have none to join. Failed jobs are listed; the others are reported.
    """
    jobs = sorted((path for path in folder.iterdir() if (path / ".hydra").is_dir()), key=_number)
    # A folder that the user names may hold the jobs of an earlier, longer sweep.
    jobs = [job for job in jobs if not job.name.isdigit() or int(job.name) < count]
    done = [job for job in jobs if (job / "summary.json").is_file()]
    repaired = [job for job in done if json.loads((job / "summary.json").read_text()).get("kind") == "repair"]
    if repaired:
        _compare(folder, repaired)
    elif done:
        _report(folder, done)
    worst = 0
    for job in jobs:
        status, message = run.failure(job)
        if status:
            print(f"mcr: job {job.name} failed: {message}", file=sys.stderr)
            worst = status if worst in (0, status) else STATUS_FAILED
    return worst


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdigit() else 10**9, path.name)


def labels(jobs: list[Path], ignoring: Collection[str] = ()) -> list[str]:
    """What tells the jobs apart: their values of the overrides that vary, save those that are to be ignored."""
    lines = [yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text()) for job in jobs]
    settings = [dict(line.split("=", 1) for line in overrides if "=" in line) for overrides in lines]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    varying = [key for key in keys if len({setting.get(key) for setting in settings}) > 1 and key not in ignoring]

    def word(key: str, value: str | None) -> str:
        # An option's name speaks for itself; a number or a list needs its key.
        return value.replace("_", "-") if value and value[0].isalpha() else f"{key.split('.')[-1]}={value}"

    if not varying:
        return [json.loads((job / "summary.json").read_text())["title"] for job in jobs]
    return [", ".join(word(key, setting.get(key)) for key in varying) for setting in settings]


def _report(folder: Path, jobs: list[Path]) -> None:
    names = labels(jobs)
    summaries = [json.loads((job / "summary.json").read_text()) for job in jobs]
    panels = [
        figures.Panel(
            name,
            PathTable.read_csv(job / "path.csv"),
            _reference(job),
            robustness.correlation_note(summary["curve"].get("correlations", {})),
        )
        for name, summary, job in zip(names, summaries, jobs, strict=True)
    ]
    if len(panels) <= figures.MOST_COLUMNS:
        references = [summary["reference"]["name"] for summary in summaries if "reference" in summary]
        reference_name = " or ".join(dict.fromkeys(references))
        figure = figures.path_figure(panels, reference_name)
    else:
        figure = figures.overlay_figure(panels)
    settings = yaml.safe_load((jobs[0] / ".hydra" / "config.yaml").read_text())["report"]
    figures.save(figure, folder, "figure", settings["formats"], settings["dpi"])
    rows = []
    for name, summary in zip(names, summaries, strict=True):
        rows += document.barrier_rows(name, summary["curve"]["metrics"])
        if "reference" in summary:
            reference = summary["reference"]
            rows += document.barrier_rows(f"{name}, {reference['name']}", reference["metrics"])
    write_csv(folder / "barriers.csv", [dict(zip(document.BARRIER_COLUMNS, row, strict=True)) for row in rows])
    verdicts = [
        (name, Verdict(**claim)) for name, summary in zip(names, summaries, strict=True) for claim in summary["claims"]
    ]
    heading = ", ".join(names) if len(names) <= figures.MOST_COLUMNS else f"{len(names)} paths"
    warned = [
        f"{name}: {line}"
        for name, summary in zip(names, summaries, strict=True)
        for line in summary.get("warnings", [])
    ]
    sections = [f"# {heading}\n", *robustness.warning_lines(warned), "![metrics along the paths](figure.png)\n"]
    sections.append(document.barrier_section(rows))
    spread = _over_replicates(labels(jobs, ignoring=("replicate",)), summaries)
    sections += [document.replicates_section(spread)] if spread else []
    sections += [document.claims_section(verdicts)] if verdicts else []
    for name, summary, panel in zip(names, summaries, panels, strict=True):
        sections.append(document.path_section(name, panel.table, summary["curve"]["path_length"]))
        beside = robustness.sections(summary["curve"], summary.get("beside", {}))
        # One level below the path that they are about.
        sections += [f"#{section}" for section in beside]
    (folder / "report.md").write_text("\n".join(sections))
    jobs_found = [{"name": name, **summary} for name, summary in zip(names, summaries, strict=True)]
    joint = {"jobs": jobs_found, "replicates": spread}
    (folder / "summary.json").write_text(json.dumps(joint, indent=2) + "\n")
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_results(list(zip(names, summaries, strict=True)), verdicts, {**places, **run.wandb_place(folder, "*/")})


def _compare(folder: Path, jobs: list[Path]) -> None:
    """The table and the figure of repairs side by side."""
    summaries = [json.loads((job / "summary.json").read_text()) for job in jobs]
    aside = ("replicate", "repair", "defense.images")
    titles = [summary["title"] for summary in summaries]
    # Where nothing else varies, the labels are the titles, which end with the method and the number of images.
    names = [
        label.rsplit(", ", 1)[0] if label == title else label
        for label, title in zip(labels(jobs, ignoring=aside), titles, strict=True)
    ]
    config = yaml.safe_load((jobs[0] / ".hydra" / "config.yaml").read_text())
    found = repairs.rows(names, summaries)
    write_csv(folder / "repairs.csv", found)
    figures.save(figures.methods_figure(found), folder, "figure", config["report"]["formats"], config["report"]["dpi"])
    verdicts = [
        (f"{name}, {summary['repair']}, N = {summary['images']}, replicate {summary['replicate']}", Verdict(**claim))
        for name, summary in zip(names, summaries, strict=True)
        for claim in summary["claims"]
    ]
    verdicts += repairs.verdicts(names, summaries, config["claims"])
    sections = ["# Repairs\n", "![repairs](figure.png)\n"]
    sections += [
        repairs.section(name, [row for row in found if row["setting"] == name]) for name in dict.fromkeys(names)
    ]
    sections += [document.claims_section(verdicts)] if verdicts else []
    (folder / "report.md").write_text("\n".join(sections))
    (folder / "summary.json").write_text(json.dumps({"jobs": summaries, "rows": found}, indent=2) + "\n")
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_comparison(found, verdicts, {**places, **run.wandb_place(folder, "*/")})


def _over_replicates(groups: list[str], summaries: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Group and metric to the spread of its barrier, for the groups that hold more than one replicate."""
    members: dict[str, list[dict[str, Any]]] = {}
    for group, summary in zip(groups, summaries, strict=True):
        members.setdefault(group, []).append(summary["curve"]["metrics"])
    return {
        group: {
            metric: over_replicates([metrics[metric]["interior"] for metrics in found])
            for metric in document.SHOWN
            if all(metric in metrics for metrics in found)
        }
        for group, found in members.items()
        if len(found) > 1
    }


def _reference(job: Path) -> PathTable | None:
    path = job / "reference.csv"
    return PathTable.read_csv(path) if path.is_file() else None
