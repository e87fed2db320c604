"""The joint report of paths and surfaces: their barriers side by side and over replicates. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import Table, metrics_of, write_csv
from mcr.metric import Metric
from mcr.reports import captions, document, figures, images, joint, joint_merged, robustness
from mcr.reports.claims import Verdict
from mcr.reports.factor_figures import Group, factor_figures
from mcr.reports.factor_tables import ByFactor
from mcr.reports.factors import Design
from mcr.reports.overview import Overview
from mcr.reports.sheets import save_sheets, some_at_a_time
from mcr.reports.surface_figures import surface_figure, surfaces_figure
from mcr.text import markdown_cell

FITTED = "path"
SHADED = "Lines are means over the seeds (replicates) of a path, shaded the range of the fitted path over them."


@dataclass(frozen=True)
class Told:
    """What the report says.

    Attributes:
        jobs: The jobs, with what they say of each other.
        spread: Group and metric to the spread of its barrier over replicates.
        described: Cost to its metric.
        warnings: Each with the name of its job.
        verdicts: Job and verdict.
        all_in_groups: Whether every job is one of several replicates.
        overview: How the sweep ended.
        whole: Whether the jobs are few enough to be told one by one.
    """

    jobs: list[joint.Job]
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    described: Mapping[str, Metric]
    warnings: list[str]
    verdicts: list[tuple[str, Verdict]]
    all_in_groups: bool
    overview: Overview
    whole: bool


def write(folder: Path, done: Sequence[joint.Finished], failures: joint.Failures) -> Told:
    """report.md, barriers.csv, figure.* and summary.json of several paths.

    Args:
        folder: Where they go.
        done: The finished jobs, at least one.
        failures: The others.
    """
    summaries = [job.summary for job in done]
    asked, titles = [job.settings for job in done], [summary["title"] for summary in summaries]
    names, groups = joint.labels(asked, titles), joint.labels(asked, titles, ignoring=("replicate",))
    config = done[0].config
    by_factor = ByFactor.of(Design.of(done, names), config["report"], config["statistics"]["level"])
    jobs = joint.jobs(names, summaries, config["soundness"])
    panels = [_panel(job, name) for job, name in zip(done, names, strict=True)]
    counted = {
        images.spoken(fitted["images"], [metric.name for metric in metrics_of(fitted) if metric.label])
        for fitted in (summary["subspaces"][FITTED] for summary in summaries)
    }
    attacks = [summary["attack"] for summary in summaries]
    settings = captions.settings(titles, attacks, "".join(counted) if len(counted) == 1 else "")
    drawn = _figures(groups, panels, by_factor.design, settings)
    sheets = save_sheets(drawn, folder, config["report"]["formats"], config["report"]["dpi"])
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
    merges = joint_merged.replicates(groups, summaries, config["statistics"]["level"])
    if merges:
        write_csv(folder / "merges.csv", merges)
    by_factor.write(folder)
    verdicts = [(job.name, verdict) for job in jobs for verdict in job.verdicts]
    unlike = list(dict.fromkeys(groups))
    heading = "; ".join(unlike) if len(unlike) <= figures.MOST_COLUMNS else f"{len(unlike)} paths"
    warned, notes = joint.warned(jobs), joint.notes(jobs)
    described = {metric.cost: metric for summary in summaries for metric in metrics_of(summary["subspaces"][FITTED])}
    spread = _over_replicates(groups, jobs, list(described), config["statistics"]["level"])
    below = [images.line(counts), *notes]
    sections = [f"# {markdown_cell(heading)}\n", *robustness.warning_lines(warned)]
    sections += [joint.failed_section(failures)] if failures else []
    sections += [f"![metrics along the paths]({name}.png)\n" for name in sheets]
    sections += [f"{SHADED}\n"] if spread else []
    sections += [document.claims_section(verdicts)] if verdicts else []
    sections += by_factor.sections([job.name for job in jobs if job.notes])
    few = len(jobs) <= figures.MOST_COLUMNS
    sections += [document.replicates_section(spread, described, below)] if spread and few else []
    sections += [joint_merged.replicates_section(merges)] if merges else []
    sections += [document.barrier_section(rows, below)] if few else [document.many_section(names, below)]
    for place, job, panel in zip(done, jobs, panels, strict=True) if few else ():
        fitted = job.summary["subspaces"][FITTED]
        sections.append(document.path_section(job.marked, panel.table, fitted["images"]))
        for probe, described_table in fitted["apart"].items():
            table = Table.read(place.folder, f"{FITTED}_{probe}", described_table)
            sections.append(document.path_section(f"{job.marked}, {probe}", table, fitted["images"]))
        beside = [robustness.stronger_section(job.summary["stronger"])] if job.summary["stronger"] else []
        related = fitted["correlations"]
        beside += [robustness.correlation_section(related, fitted["images"])] if related else []
        # One level below the path that they are about.
        sections += [f"#{section}" for section in beside]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    known = [{**job.known, "name": job.name, "notes": job.notes} for job in jobs]
    joint.write_summary(folder, {"jobs": known, "replicates": spread, "by_factor": by_factor.described()}, failures)
    whole = set(groups) == {name.removesuffix(joint.MARK) for name in spread}
    overview = by_factor.overview(len(failures))
    return Told(jobs, spread, described, warned, verdicts, whole, overview, few)


def _panel(job: joint.Finished, name: str) -> figures.Panel:
    """What a figure shows of one job."""
    spaces = {
        space: (found["label"], Table.read(job.folder, space, found["table"]))
        for space, found in job.summary["subspaces"].items()
    }
    _, table = spaces.pop(FITTED)
    related = job.summary["subspaces"][FITTED]["correlations"]
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


def _figures(groups: list[str], panels: list[figures.Panel], design: Design, settings: str) -> list[Figure]:
    """Paths side by side, or by factor where they are many; then surfaces, below each other."""
    means = dict(zip(dict.fromkeys(groups), _means(groups, panels), strict=True))
    paths = {group: panel for group, panel in means.items() if len(panel.table.coordinates) == 1}
    if len(paths) > figures.MOST_COLUMNS and design.factors:
        levels = dict(zip(groups, design.levels, strict=True))
        found = factor_figures(
            [Group(levels[group], panel) for group, panel in paths.items()], design.factors, settings
        )
    else:
        found = [figures.path_figure(part, settings) for part in some_at_a_time(list(paths.values()))]
    others = [panel for group, panel in means.items() if group not in paths]
    if len(others) == 1:
        return [*found, surface_figure(others[0], {}, settings)]
    return [*found, *(surfaces_figure(part, settings) for part in some_at_a_time(others))]


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
