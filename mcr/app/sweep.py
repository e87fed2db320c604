"""The end of a multirun: one table and one figure over its jobs, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mcr.app import run
from mcr.app.terminal import FITTED, print_comparison, print_replicates, print_results
from mcr.errors import STATUS_FAILED
from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import Table, metrics_of, write_csv
from mcr.numerics.statistics import finite
from mcr.reports import document, figures, images, joint, repair_figures, repairs, robustness
from mcr.reports.claims import Verdict
from mcr.store import jsonfile
from mcr.text import CELL, markdown_cell, printable

Failures = Sequence[Mapping[str, str]]  # the number of each failed job, what it is called, and the reason
SHADED = "Lines are means over the seeds (replicates) of a path, shaded the range of the fitted path over them."


def finish(folder: Path, count: int) -> int:
    """Write the joint report of a sweep's ``count`` jobs and print it; returns the exit status.

    Jobs whose verb stops before the report have none to join. Failed jobs are listed in it; the others are reported.
    """
    jobs = sorted((path for path in folder.iterdir() if (path / ".hydra").is_dir()), key=_number)
    # A folder that the user names may hold the jobs of an earlier, longer sweep.
    jobs = [job for job in jobs if not job.name.isdigit() or int(job.name) < count]
    done = [job for job in jobs if (job / "summary.json").is_file()]
    failures, worst = [], 0
    for job, name in zip(jobs, labels(jobs), strict=True):
        status, reason = run.failure(job)
        if status:
            failures.append({"job": job.name, "name": name, "reason": reason})
            worst = status if worst in (0, status) else STATUS_FAILED
    if any(_read(job).get("kind") == "repair" for job in done):
        _compare(folder, done, failures)
    elif done:
        _report(folder, done, failures)
    for failed in failures:
        print(f"mcr: job {failed['job']} failed: {printable(failed['reason'], CELL)}", file=sys.stderr)
    return worst


def _read(job: Path) -> dict[str, Any]:
    found: dict[str, Any] = jsonfile.read(job / "summary.json")
    return found


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdigit() else 10**9, path.name)


def labels(jobs: list[Path], ignoring: Collection[str] = ()) -> list[str]:
    """What tells the jobs apart: their values of the overrides that vary, save those that are to be ignored."""
    places = [job / ".hydra" / "overrides.yaml" for job in jobs]  # not there of a job that was stopped before it began
    lines = [yaml.safe_load(place.read_text(encoding="utf-8")) if place.is_file() else [] for place in places]
    settings = [dict(line.split("=", 1) for line in overrides if "=" in line) for overrides in lines]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    varying = [key for key in keys if len({setting.get(key) for setting in settings}) > 1 and key not in ignoring]

    def word(key: str, value: str | None) -> str:
        # An option's name speaks for itself; a number or a list needs its key.
        return value.replace("_", "-") if value and value[0].isalpha() else f"{key.split('.')[-1]}={value}"

    if not varying:
        return [_read(job)["title"] if (job / "summary.json").is_file() else f"job {job.name}" for job in jobs]
    return [", ".join(word(key, setting.get(key)) for key in varying) for setting in settings]


def _report(folder: Path, done: list[Path], failures: Failures) -> None:
    names = labels(done)
    config = yaml.safe_load((done[0] / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    summaries = [_read(job) for job in done]
    jobs = joint.jobs(names, summaries, config["soundness"])
    panels = [_panel(job, name, summary) for job, name, summary in zip(done, names, summaries, strict=True)]
    groups = labels(done, ignoring=("replicate",))
    figure = _figure(_means(groups, panels))
    figures.save(figure, folder, "figure", config["report"]["formats"], config["report"]["dpi"])
    rows, records, counts = [], [], []
    for job in jobs:
        for space, found in job.summary["subspaces"].items():
            metrics, ends = metrics_of(found), job.summary["ends"]
            path = "" if space == FITTED else f", {found['label']}"
            rows += document.barrier_rows(f"{job.marked}{path}", metrics, found["metrics"], ends)
            told = document.barrier_records(f"{job.name}{path}", metrics, found["metrics"], ends, found["images"])
            records += [{**record, "note": "; ".join(job.notes)} for record in told]
            counts.append((f"{job.name}{path}", images.spoken(found["images"], [m.name for m in metrics if m.label])))
    write_csv(folder / "barriers.csv", records)
    verdicts = [(job.name, verdict) for job in jobs for verdict in job.verdicts]
    unlike = list(dict.fromkeys(groups))
    heading = ", ".join(unlike) if len(unlike) <= figures.MOST_COLUMNS else f"{len(unlike)} paths"
    warned, notes = joint.warned(jobs), joint.notes(jobs)
    described = {metric.cost: metric for summary in summaries for metric in metrics_of(summary["subspaces"][FITTED])}
    spread = _over_replicates(groups, jobs, list(described), config["statistics"]["level"])
    below = [images.line(counts), *notes]
    sections = [f"# {markdown_cell(heading)}\n", *robustness.warning_lines(warned)]
    sections += [joint.failed_section(failures)] if failures else []
    sections += ["![metrics along the paths](figure.png)\n"]
    sections += [f"{SHADED}\n"] if spread else []
    sections += [document.claims_section(verdicts)] if verdicts else []
    sections += [document.replicates_section(spread, described, below)] if spread else []
    sections.append(document.barrier_section(rows, below))
    for folder_of, job, panel in zip(done, jobs, panels, strict=True):
        fitted = job.summary["subspaces"][FITTED]
        sections.append(document.path_section(job.marked, panel.table, fitted["images"]))
        for probe, described_table in fitted["apart"].items():
            table = Table.read(folder_of, f"{FITTED}_{probe}", described_table)
            sections.append(document.path_section(f"{job.marked}, {probe}", table, fitted["images"]))
        beside = [robustness.stronger_section(job.summary["stronger"])] if job.summary["stronger"] else []
        related = fitted["correlations"]
        beside += [robustness.correlation_section(related, fitted["images"])] if related else []
        # One level below the path that they are about.
        sections += [f"#{section}" for section in beside]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    known = [{**job.known, "name": job.name, "notes": job.notes} for job in jobs]
    _write_summary(folder, {"jobs": known, "replicates": spread}, failures)
    places: dict[str, Path | str] = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    places |= run.wandb_place(folder, "*/")
    if set(groups) == {name.removesuffix(joint.MARK) for name in spread}:
        print_replicates(spread, described, warned, verdicts, places)
    else:
        print_results([(job.marked, job.known) for job in jobs], verdicts, places)


def _write_summary(folder: Path, content: Mapping[str, Any], failures: Failures) -> None:
    jsonfile.write(folder / "summary.json", finite({**content, "failed": failures}))


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


def _compare(folder: Path, jobs: list[Path], failures: Failures) -> None:
    """The table and the figure of repairs side by side."""
    summaries = [_read(job) for job in jobs]
    aside = ("replicate", "repair", "repair.budget.images")
    titles = [summary["title"] for summary in summaries]
    # Where nothing else varies, the labels are the titles, which end with the method and the number of images.
    names = [
        label.rsplit(", ", 1)[0] if label == title else label
        for label, title in zip(labels(jobs, ignoring=aside), titles, strict=True)
    ]
    config = yaml.safe_load((jobs[0] / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    level = config["statistics"]["level"]
    told = [f"{name}, replicate {one['replicate']}" for name, one in zip(names, summaries, strict=True)]
    summaries = [job.known for job in joint.jobs(told, summaries, config["soundness"])]
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
    sections = ["# Repairs\n"]
    sections += [joint.failed_section(failures)] if failures else []
    sections += ["![repairs](figure.png)\n"]
    sections += [
        repairs.section(name, [row for row in found if row["setting"] == name], summaries[names.index(name)])
        for name in dict.fromkeys(names)
    ]
    sections += [document.claims_section(verdicts)] if verdicts else []
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    _write_summary(folder, {"jobs": summaries, "rows": found}, failures)
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_comparison(found, verdicts, {**places, **run.wandb_place(folder, "*/")})


def _over_replicates(
    groups: list[str], jobs: list[joint.Job], costs: list[str], level: float
) -> dict[str, dict[str, dict[str, float]]]:
    """Group and metric to the spread of its barrier, for the groups that hold more than one replicate.

    A group one of whose jobs has notes is marked.
    """
    members: dict[str, list[joint.Job]] = {}
    for group, job in zip(groups, jobs, strict=True):
        members.setdefault(group, []).append(job)
    return {
        f"{group}{joint.MARK}" if any(job.notes for job in found) else group: {
            cost: over_replicates(
                [job.summary["subspaces"][FITTED]["metrics"][cost]["interior"] for job in found], level
            )
            for cost in costs
            if all(cost in job.summary["subspaces"][FITTED]["metrics"] for job in found)
        }
        for group, found in members.items()
        if len(found) > 1
    }
