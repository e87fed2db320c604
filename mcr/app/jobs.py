"""What the folders of jobs say: what each was asked, how it ended, and what it found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mcr.app import failure, run
from mcr.errors import STATUS_FAILED, InputError
from mcr.store import jsonfile

CONFIG, OVERRIDES = Path(".hydra") / "config.yaml", Path(".hydra") / "overrides.yaml"
NOT_BEGUN = (STATUS_FAILED, "was not begun")
ASIDE = ("hydra", "logger", "paths.", "report", "runtime")  # what cannot change a number
GOALS = ("report", "card")  # stages that a verb ends with; a run's folder links to them


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job.

    Attributes:
        folder: Its own: ``summary.json`` and the report's tables where it finished, ``failure.txt`` where it failed.
            It is not there of a job that was never begun.
        name: Its number, after the name of its sweep where there are several.
        settings: What its command line asked: key to value, as written.
    """

    folder: Path
    name: str
    settings: Mapping[str, str]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its configuration as Hydra stored it; interpolations are not resolved. Empty where it was killed before."""
        return _yaml(self.folder / CONFIG) or {}

    @property
    def finished(self) -> bool:
        """Whether it has a summary."""
        return (self.folder / "summary.json").is_file()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What it found. Raises InputError where the file is damaged."""
        try:
            found: dict[str, Any] = jsonfile.read(self.folder / "summary.json")
        except ValueError as error:
            said = f"{self.folder / 'summary.json'} is damaged ({error}): repeat its command"
            raise InputError(said) from None
        return found

    @cached_property
    def failure(self) -> tuple[int, str]:
        """Its exit status and the reason of its failure: 0 and nothing where there is none."""
        if not (self.folder / failure.FILE).is_file() and not self.finished and self._reports:
            return NOT_BEGUN
        return failure.read(self.folder)

    @property
    def _reports(self) -> bool:
        """Whether a summary is expected of it."""
        return not self.config or self.config["verb"] in run.REPORTED

    @property
    def title(self) -> str:
        """What it is called where nothing tells it from the others."""
        return self.summary["title"] if self.finished else f"job {self.name}"

    @property
    def result(self) -> str:
        """The key of what it ended with; its place where it links to nothing, as in a copy."""
        for goal in GOALS:
            link = self.folder / "stages" / goal
            if link.is_symlink():
                return Path(os.readlink(link)).name
        return str(self.folder.resolve())


def settings(words: Sequence[str]) -> dict[str, str]:
    """What overrides ask: key to value."""
    return dict(word.split("=", 1) for word in words if "=" in word)


def of_sweep(folder: Path, lines: Sequence[Sequence[str]]) -> list[JobFolder]:
    """The jobs of a sweep, in their order.

    A folder that the user names may hold more, of an earlier, longer sweep.

    Args:
        folder: The sweep's.
        lines: The overrides of each job.
    """
    return [JobFolder(folder / str(i), str(i), settings(line)) for i, line in enumerate(lines)]


def found(folder: Path) -> list[JobFolder]:
    """The jobs that lie in a folder: itself, or those of a sweep.

    Raises:
        InputError: Where there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    jobs = begun(folder)
    if not jobs:
        raise InputError(f"{folder} holds no job: name a folder of multirun/sweeps or multirun/runs")
    return jobs


def begun(folder: Path) -> list[JobFolder]:
    """The jobs that have begun in a folder: itself, or those of a sweep; maybe none."""
    places = [folder] if _begun(folder) else sorted(filter(_begun, folder.iterdir()), key=_number)
    return [JobFolder(place, place.name, settings(_overrides(place))) for place in places]


def of_folders(folders: Sequence[Path]) -> tuple[list[JobFolder], int]:
    """The jobs of several folders, and how many more stand in them for the second time.

    A job with the result of another is the same one, found again in the store. A failed one whose command line ended
    well elsewhere has been repeated.

    Raises:
        InputError: For a folder that is not there or holds no job.
    """
    every: list[JobFolder] = []
    for folder in folders:
        for job in found(folder):
            name = job.name if len(folders) == 1 or job.folder == folder else f"{folder.name}/{job.name}"
            every.append(JobFolder(job.folder, name, job.settings))
    known: dict[str, JobFolder] = {}
    for job in every:
        known.setdefault(job.result if job.finished else str(job.folder.resolve()), job)
    done = [_asked(job) for job in known.values() if job.finished]
    kept = [job for job in known.values() if job.finished or _asked(job) not in done]
    return kept, len(every) - len(kept)


def _asked(job: JobFolder) -> dict[str, str]:
    """The settings of a job that may change what it finds."""
    return {key: value for key, value in job.settings.items() if not key.startswith(ASIDE)}


def _begun(path: Path) -> bool:
    return (path / ".hydra").is_dir()


def _overrides(folder: Path) -> list[str]:
    return _yaml(folder / OVERRIDES) or []


def _yaml(place: Path) -> Any:
    """What a file of Hydra's holds; None where its job was stopped before it was written, or in the middle of that."""
    try:
        return yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdigit() else 10**9, path.name)
