"""What the folders of a sweep's jobs say: what each was asked, how it ended, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mcr.app import run
from mcr.store import jsonfile

CONFIG, OVERRIDES = Path(".hydra") / "config.yaml", Path(".hydra") / "overrides.yaml"


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job of a sweep.

    Attributes:
        folder: Its own: ``summary.json`` and the report's tables where it finished, ``failure.txt`` where it failed.
    """

    folder: Path

    @cached_property
    def settings(self) -> dict[str, str]:
        """What its command line asked: key to value, as written."""
        place = self.folder / OVERRIDES  # not there of a job that was stopped before it began
        lines = yaml.safe_load(place.read_text(encoding="utf-8")) if place.is_file() else []
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its configuration as Hydra stored it; interpolations are not resolved."""
        found: dict[str, Any] = yaml.safe_load((self.folder / CONFIG).read_text(encoding="utf-8"))
        return found

    @property
    def finished(self) -> bool:
        """Whether it has a summary."""
        return (self.folder / "summary.json").is_file()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What it found."""
        found: dict[str, Any] = jsonfile.read(self.folder / "summary.json")
        return found

    @cached_property
    def failure(self) -> tuple[int, str]:
        """Its exit status and the reason of its failure: 0 and nothing where there is none."""
        return run.failure(self.folder)

    @property
    def title(self) -> str:
        """What it is called where nothing tells it from the others."""
        return self.summary["title"] if self.finished else f"job {self.folder.name}"


def of_sweep(folder: Path, count: int) -> list[JobFolder]:
    """The first ``count`` jobs of a sweep, in their order."""
    found = sorted((path for path in folder.iterdir() if (path / ".hydra").is_dir()), key=_number)
    # A folder that the user names may hold the jobs of an earlier, longer sweep.
    return [JobFolder(path) for path in found if not path.name.isdigit() or int(path.name) < count]


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdigit() else 10**9, path.name)
