"""The end of a multirun: one table and one figure over its jobs, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from mcr.app import run
from mcr.app.terminal import FITTED, print_comparison, print_replicates, print_results
from mcr.errors import STATUS_FAILED
from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import Table, metrics_of, write_csv
from mcr.reports import document, figures, repair_figures, repairs, robustness
from mcr.reports.claims import Verdict
from mcr.store import jsonfile

SHADED = "Lines are means over the seeds (replicates) of a path, shaded the range of the fitted path over them."


def finish(folder: Path, count: int) -> int:
    """Write the joint report of a sweep's ``count`` jobs and print it; returns the exit status.

    Jobs whose verb stops before the report have none to join. Failed jobs are listed; the others are reported.
    """
    jobs = sorted((path for path in folder.iterdir() if (path / ".hydra").is_dir()), key=_number)
    # A folder that the user names may hold the jobs of an earlier, longer sweep.
    jobs = [job for job in jobs if not job.name.isdigit() or int(job.name) < count]
    done = [job for job in jobs if (job / "summary.json").is_file()]
    repaired = [job for job in done if jsonfile.read(job / "summary.json").get("kind") == "repair"]
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
    lines = [yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")) for job in jobs]
    settings = [dict(line.split("=", 1) for line in overrides if "=" in line) for overrides in lines]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    varying = [key for key in keys if len({setting.get(key) for setting in settings}) > 1 and key not in ignoring]

    def word(key: str, value: str | None) -> str:
        # An option's name speaks for itself; a number or a list needs its key.
        return value.replace("_", "-") if value and value[0].isalpha() else f"{key.split('.')[-1]}={value}"

    if not varying:
        return [jsonfile.read(job / "summary.json")["title"] for job in jobs]
    return [", ".join(word(key, setting.get(key)) for key in varying) for setting in settings]


def _report(folder: Path, jobs: list[Path]) -> None:
    names = labels(jobs)
    summaries = [jsonfile.read(job / "summary.json") for job in jobs]
    config = yaml.safe_load((jobs[0] / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    panels = [_panel(job, name, summary) for job, name, summary in zip(jobs, names, summaries, strict=True)]
    groups = labels(jobs, ignoring=("replicate",))
    figure = _figure(_means(groups, panels))
    figures.save(figure, folder, "figure", config["report"]["formats"], config["report"]["dpi"])
    rows, records = [], []
    for name, summary in zip(names, summaries, strict=True):
        for space, found in summary["subspaces"].items():
            metrics = metrics_of(found)
            label = name if space == FITTED else f"{name}, {found['label']}"
            rows += document.barrier_rows(label, metrics, found["metrics"], summary["ends"])
            records += document.barrier_records(label, metrics, found["metrics"], summary["ends"])
    write_csv(folder / "barriers.csv", records)
    verdicts = [
        (name, Verdict(**claim)) for name, summary in zip(names, summaries, strict=True) for claim in summary["claims"]
    ]
    unlike = list(dict.fromkeys(groups))
    heading = ", ".join(unlike) if len(unlike) <= figures.MOST_COLUMNS else f"{len(unlike)} paths"
    warned = [f"{name}: {line}" for name, summary in zip(names, summaries, strict=True) for line in summary["warnings"]]
    every = [metric for summary in summaries for metric in metrics_of(summary["subspaces"][FITTED])]
    described = {metric.cost: metric for metric in every}
    level = config["statistics"]["level"]
    spread = _over_replicates(groups, summaries, list(described), level)
    sections = [f"# {heading}\n", *robustness.warning_lines(warned), "![metrics along the paths](figure.png)\n"]
    sections += [f"{SHADED}\n"] if spread else []
    sections += [document.claims_section(verdicts)] if verdicts else []
    sections += [document.replicates_section(spread, described)] if spread else []
    sections.append(document.barrier_section(rows))
    for job, name, summary, panel in zip(jobs, names, summaries, panels, strict=True):
        sections.append(document.path_section(name, panel.table))
        for probe, described_table in summary["subspaces"][FITTED]["apart"].items():
            table = Table.read(job, f"{FITTED}_{probe}", described_table)
            sections.append(document.path_section(f"{name}, {probe}", table))
        beside = [robustness.stronger_section(summary["stronger"])] if summary["stronger"] else []
        related = summary["subspaces"][FITTED]["correlations"]
        beside += [robustness.correlation_section(related)] if related else []
        # One level below the path that they are about.
        sections += [f"#{section}" for section in beside]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    jobs_found = [{"name": name, **summary} for name, summary in zip(names, summaries, strict=True)]
    joint = {"jobs": jobs_found, "replicates": spread}
    jsonfile.write(folder / "summary.json", joint)
    places: dict[str, Path | str] = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    places |= run.wandb_place(folder, "*/")
    if set(groups) == set(spread):
        print_replicates(spread, described, warned, verdicts, places)
    else:
        print_results(list(zip(names, summaries, strict=True)), verdicts, places)


def _panel(job: Path, name: str, summary: dict[str, Any]) -> figures.Panel:
    """What a figure shows of one job."""
    spaces = {
        space: (found["label"], Table.read(job, space, found["table"])) for space, found in summary["subspaces"].items()
    }
    _, table = spaces.pop(FITTED)
    related = summary["subspaces"][FITTED]["correlations"]
    notes = {metric.label: robustness.correlation_note(related, metric.name) for metric in table.metrics}
    return figures.Panel(name, table, [figures.Line(*found) for found in spaces.values()], notes)


def _means(groups: list[str], panels: list[figures.Panel]) -> list[figures.Panel]:
    """One panel for all replicates of a path: their means, and the range of the fitted path."""
    members: dict[str, list[figures.Panel]] = {}
    for group, panel in zip(groups, panels, strict=True):
        members.setdefault(group, []).append(panel)
    if len(members) == len(panels):
        return panels
    found = []
    for group, same in members.items():
        tables = [panel.table for panel in same]
        references = [
            figures.Line(lines[0].name, Table.mean([line.table for line in lines]))
            for lines in zip(*(panel.references for panel in same), strict=True)
        ]
        title = f"{group}, {len(same)} seeds" if len(same) > 1 else group
        found.append(figures.Panel(title, Table.mean(tables), references, {}, tables if len(same) > 1 else ()))
    return found


def _figure(panels: list[figures.Panel]) -> Any:
    """Paths side by side, or on top of each other where they are many; surfaces side by side."""
    paths = [panel for panel in panels if len(panel.table.coordinates) == 1]
    if not paths:
        return figures.surface_figure(panels[: figures.MOST_COLUMNS])
    return figures.path_figure(paths) if len(paths) <= figures.MOST_COLUMNS else figures.overlay_figure(paths)


def _compare(folder: Path, jobs: list[Path]) -> None:
    """The table and the figure of repairs side by side."""
    summaries = [jsonfile.read(job / "summary.json") for job in jobs]
    aside = ("replicate", "repair", "repair.budget.images")
    titles = [summary["title"] for summary in summaries]
    # Where nothing else varies, the labels are the titles, which end with the method and the number of images.
    names = [
        label.rsplit(", ", 1)[0] if label == title else label
        for label, title in zip(labels(jobs, ignoring=aside), titles, strict=True)
    ]
    config = yaml.safe_load((jobs[0] / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    level = config["statistics"]["level"]
    found = repairs.rows(names, summaries, level)
    write_csv(folder / "repairs.csv", found)
    figures.save(
        repair_figures.methods_figure(found), folder, "figure", config["report"]["formats"], config["report"]["dpi"]
    )
    verdicts = [
        (f"{name}, {summary['repair']}, N = {summary['images']}, replicate {summary['replicate']}", Verdict(**claim))
        for name, summary in zip(names, summaries, strict=True)
        for claim in summary["claims"]
    ]
    verdicts += repairs.verdicts(names, summaries, config["claims"], level)
    sections = ["# Repairs\n", "![repairs](figure.png)\n"]
    sections += [
        repairs.section(name, [row for row in found if row["setting"] == name], summaries[names.index(name)])
        for name in dict.fromkeys(names)
    ]
    sections += [document.claims_section(verdicts)] if verdicts else []
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    jsonfile.write(folder / "summary.json", {"jobs": summaries, "rows": found})
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_comparison(found, verdicts, {**places, **run.wandb_place(folder, "*/")})


def _over_replicates(
    groups: list[str], summaries: list[dict[str, Any]], costs: list[str], level: float
) -> dict[str, dict[str, dict[str, float]]]:
    """Group and metric to the spread of its barrier, for the groups that hold more than one replicate."""
    members: dict[str, list[dict[str, Any]]] = {}
    for group, summary in zip(groups, summaries, strict=True):
        members.setdefault(group, []).append(summary["subspaces"][FITTED]["metrics"])
    return {
        group: {
            cost: over_replicates([metrics[cost]["interior"] for metrics in found], level)
            for cost in costs
            if all(cost in metrics for metrics in found)
        }
        for group, found in members.items()
        if len(found) > 1
    }
