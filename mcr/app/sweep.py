"""The end of a multirun: its jobs reported together, what failed, and the exit status."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from mcr.app import jobs, run
from mcr.app.terminal import print_comparison, print_overview, print_replicates, print_results
from mcr.errors import STATUS_FAILED
from mcr.reports import joint, joint_paths, joint_repairs, provenance
from mcr.reports.figures import MOST_COLUMNS
from mcr.text import CELL, printable

MULTIRUN = "multirun.yaml"  # Hydra's record of what a sweep was asked


def finish(folder: Path, count: int) -> int:
    """Write the joint report of a sweep's ``count`` jobs and print it; returns the exit status.

    Jobs whose verb stops before the report have none to join. Failed jobs are listed in it; the others are reported.
    """
    found = jobs.of_sweep(folder, count)
    names = joint.labels([job.settings for job in found], [job.title for job in found])
    failures, worst = [], 0
    for job, name in zip(found, names, strict=True):
        status, reason = job.failure
        if status:
            failures.append({"job": job.folder.name, "name": name, "reason": reason})
            worst = status if worst in (0, status) else STATUS_FAILED
    done = [joint.Finished(job.folder, job.settings, job.config, job.summary) for job in found if job.finished]
    if any(job.summary.get("kind") == "repair" for job in done):
        _compare(folder, done, failures)
    elif done:
        _report(folder, done, failures)
    if done and (folder / MULTIRUN).is_file():
        asked = yaml.safe_load((folder / MULTIRUN).read_text(encoding="utf-8"))
        provenance.add(folder, done[0].config["verb"], asked["hydra"]["overrides"]["task"], swept=True)
    for failed in failures:
        print(f"mcr: job {failed['job']} failed: {printable(failed['reason'], CELL)}", file=sys.stderr)
    return worst


def _report(folder: Path, done: list[joint.Finished], failures: joint.Failures) -> None:
    told = joint_paths.write(folder, done, failures)
    places: dict[str, Path | str] = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    places |= run.wandb_place(folder, "*/")
    print_overview(told.overview)
    if not told.whole:
        count = len(told.warnings)
        warned = [f"{count} in all, at the head of {places['tables']}"] if count else []
        print_replicates({}, {}, warned, told.verdicts, places)
    elif told.all_in_groups:
        print_replicates(told.spread, told.described, told.warnings, told.verdicts, places)
    else:
        print_results([(job.marked, job.known) for job in told.jobs], told.verdicts, places)


def _compare(folder: Path, done: list[joint.Finished], failures: joint.Failures) -> None:
    found, verdicts, overview = joint_repairs.write(folder, done, failures)
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_overview(overview)
    few = len({row["setting"] for row in found}) <= MOST_COLUMNS
    print_comparison(found if few else [], verdicts, {**places, **run.wandb_place(folder, "*/")})
