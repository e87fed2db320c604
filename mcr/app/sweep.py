"""Jobs reported together: at the end of a multirun, or later from their folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from mcr.app import failure, jobs, published, run
from mcr.app.jobs import JobFolder
from mcr.app.overrides import Request
from mcr.app.terminal import (
    print_best,
    print_comparison,
    print_failed,
    print_overview,
    print_replicates,
    print_results,
)
from mcr.errors import STATUS_FAILED, InputError
from mcr.loggers.place import Place
from mcr.loggers.sweep import log_sweep
from mcr.reports import joint, joint_paths, joint_repairs, provenance
from mcr.reports.figures import MOST_COLUMNS
from mcr.text import CELL, printable

BEST = "optimization_results.yaml"  # what a sweeper that searches leaves


def finish(folder: Path, request: Request) -> int:
    """Write the joint report of a sweep, print it, and tell the logger; returns the exit status.

    Jobs whose verb stops before the report have none to join. Failed jobs are listed in it; the others are reported.

    Args:
        folder: The sweep's.
        request: What its command asked for.
    """
    lines = [job.overrides for job in request.jobs]
    # Only the sweeper knows the jobs of a search.
    found = jobs.begun(folder) if request.searched else jobs.of_sweep(folder, lines)
    verb = request.jobs[0].config["verb"]
    # A sweeper that fails before its first job has said so.
    status = _write(folder, found, ["-m", verb, *request.words], request.words) if found else STATUS_FAILED
    if (folder / BEST).is_file():
        print_best(yaml.safe_load((folder / BEST).read_text(encoding="utf-8")))
    cfg = request.jobs[0].config
    finished = sum(job.failure[0] == 0 for job in found)
    counted = {"jobs": len(found), "finished": finished, "failed": len(found) - finished}
    asked = {"command": published.command(cfg["verb"], request.words), "verb": cfg["verb"], **counted}
    with suppress(InputError):  # said by the jobs already
        log_sweep(Place(cfg["logger"], folder.name, folder.absolute()), asked)
    return status


def holds_jobs(folder: Path) -> bool:
    """Whether jobs have begun in a sweep's folder."""
    return bool(jobs.begun(folder))


def unfinished(folder: Path, request: Request) -> tuple[set[int], set[int]]:
    """The numbers of the jobs of a sweep that began without an end, and of those that never began."""
    found = [job.failure for job in jobs.of_sweep(folder, [job.overrides for job in request.jobs])]
    waiting = {number for number, how in enumerate(found) if how == jobs.NOT_BEGUN}
    return {number for number, how in enumerate(found) if how == failure.UNFINISHED}, waiting


def join(folders: Sequence[Path], place: Callable[[], Path]) -> int:
    """The joint report of jobs that lie in these folders, whatever sweeps they are of; returns the exit status.

    Args:
        folders: Of sweeps, of runs, or of jobs.
        place: Gives the folder of the report; asked when all else is in order.

    Raises:
        InputError: For a folder without jobs, jobs without reports, or repairs among paths.
    """
    found, twice = jobs.of_folders(folders)
    kinds = {job.summary.get("kind", "path") for job in found if job.finished}
    if len(kinds) > 1:
        raise InputError("these folders hold reports of paths and cards of repairs, which have no table in common")
    if not kinds and not any(job.failure[0] for job in found):
        named = " ".join(str(folder) for folder in folders)
        raise InputError(f"{named}: no job there has a report; the verbs report and repair make them")
    if twice:
        print(f"{twice} of the jobs stand in these folders twice, or were repeated: counted once")
    folder = place()
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, found, ["report", *map(str, folders)], [])


def _write(folder: Path, found: Sequence[JobFolder], command: Sequence[str], words: Sequence[str]) -> int:
    """The report of these jobs, in a folder and on the terminal; the exit status of the worst of them.

    Args:
        folder: Where it goes.
        found: The jobs.
        command: The words of the command line.
        words: The overrides among them.
    """
    told = joint.varying([job.settings for job in found])
    settings = [{key: job.settings.get(key, "") for key in told} for job in found]
    names = joint.labels(settings, [job.title for job in found])
    failures, worst = [], 0
    for job, name in zip(found, names, strict=True):
        status, reason = job.failure
        if status:
            failures.append({"job": job.name, "name": name, "reason": reason})
            worst = status if worst in (0, status) else STATUS_FAILED
    done = [
        joint.Finished(job.folder, setting, job.config, job.summary)
        for job, setting in zip(found, settings, strict=True)
        if job.finished and not job.failure[0]
    ]
    if any(job.summary.get("kind") == "repair" for job in done):
        _compare(folder, done, failures)
    elif done:
        _report(folder, done, failures)
    elif failures:
        joint.write_failed(folder, failures)
        print_failed(len(failures), folder / "report.md")
    if done or failures:
        provenance.add(folder, command, words)
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
