"""What the reports of several jobs say together that none says alone. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcr.evaluation.table import markdown
from mcr.reports import soundness
from mcr.reports.claims import Verdict
from mcr.reports.soundness import Doubt, End
from mcr.store import jsonfile

Failures = Sequence[Mapping[str, str]]  # of each failed job its number ``job``, its ``name``, and the ``reason``
MARK = " †"  # behind the name of a path that a note is about


@dataclass(frozen=True)
class Finished:
    """A job that has a report.

    Attributes:
        folder: Holds the report's tables.
        settings: The overrides that tell jobs apart, those that failed among them: key to value.
        config: Its configuration.
        summary: Its summary.json.
    """

    folder: Path
    settings: Mapping[str, str]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A finished job of a sweep.

    Attributes:
        name: What tells it from the others.
        summary: Its summary.json.
        doubts: About its ends, those included that only the other jobs' networks give reason for.
    """

    name: str
    summary: Mapping[str, Any]
    doubts: tuple[Doubt, ...]

    @property
    def notes(self) -> list[str]:
        """Why its numbers are to be read with care: trainings that ended early, and ends in doubt."""
        return [*self.summary["stopped"], *(doubt.reason for doubt in self.doubts)]

    @property
    def marked(self) -> str:
        """Its name, marked where there are notes."""
        return f"{self.name}{MARK}" if self.notes else self.name

    @property
    def warnings(self) -> list[str]:
        """Its own warnings, and those about doubts that it does not know of."""
        new = [doubt for doubt in self.doubts if vars(doubt) not in self.summary["doubts"]]
        return list(dict.fromkeys([*self.summary["warnings"], *soundness.warnings(new)]))

    @property
    def verdicts(self) -> list[Verdict]:
        """Its claims: not tested where only the other jobs show that an end is broken."""
        reasons = [doubt.reason for doubt in self.doubts if not doubt.about]
        found = [Verdict(**claim) for claim in self.summary["claims"]]
        known = {doubt["reason"] for doubt in self.summary["doubts"]}
        return [verdict.without_test([reason for reason in reasons if reason not in known]) for verdict in found]

    @property
    def known(self) -> dict[str, Any]:
        """Its summary, as it is with what the other jobs show."""
        return {
            **self.summary,
            "claims": [vars(verdict) for verdict in self.verdicts],
            "doubts": [vars(doubt) for doubt in self.doubts],
            "warnings": self.warnings,
        }


def jobs(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], settings: Mapping[str, float]) -> list[Job]:
    """The jobs of a sweep, each end compared with all networks of its recipe.

    Args:
        names: What tells the jobs apart.
        summaries: Theirs.
        settings: Of the section ``soundness``.
    """
    networks = [[End.read(one) for one in summary["networks"]] for summary in summaries]
    found = []
    for index, (name, summary) in enumerate(zip(names, summaries, strict=True)):
        others = [
            replace(end, name=f"{end.name} of {names[other]}")
            for other, ends in enumerate(networks)
            if other != index
            for end in ends
        ]
        stored = [Doubt(**doubt) for doubt in summary["doubts"]]
        known = {(doubt.end, doubt.about) for doubt in stored}
        new = [
            doubt
            for doubt in soundness.doubts(networks[index], settings, others)
            if (doubt.end, doubt.about) not in known
        ]
        found.append(Job(name, summary, (*stored, *new)))
    return found


def notes(found: Sequence[Job]) -> list[str]:
    """What the mark behind a name means, one sentence a job."""
    return [f"{MARK.strip()} {job.name}: {'; '.join(job.notes)}." for job in found if job.notes]


def warned(found: Sequence[Job]) -> list[str]:
    """All warnings, each with the name of its job."""
    return [f"{job.name}: {line}" for job in found for line in job.warnings]


def varying(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that tell jobs apart, in the order of their command lines."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def labels(settings: Sequence[Mapping[str, str]], titles: Sequence[str], ignoring: Collection[str] = ()) -> list[str]:
    """What jobs are called: their values of the overrides that vary.

    Args:
        settings: Of each job the values of these keys; an empty one where its command line did not have it.
        titles: Their names where nothing varies.
        ignoring: Keys that are to tell nothing apart.
    """

    def word(key: str, value: str) -> str:
        # An option's name speaks for itself; a number or a list needs its key.
        return value.replace("_", "-") if value and value[0].isalpha() else f"{key.split('.')[-1]}={value}"

    told = [[word(key, value) for key, value in setting.items() if key not in ignoring] for setting in settings]
    return [", ".join(words) or title for words, title in zip(told, titles, strict=True)]


def failed_section(failed: Failures) -> str:
    """The jobs that gave nothing."""
    rows = [[one["job"], one["name"], one["reason"]] for one in failed]
    return f"## Failed jobs\n\n{markdown(['job', 'path', 'reason'], rows)}\n"


def write_summary(folder: Path, content: Mapping[str, Any], failures: Failures) -> None:
    """The joint summary.json of a sweep."""
    jsonfile.write(folder / "summary.json", {**content, "failed": failures})


def write_failed(folder: Path, failures: Failures) -> None:
    """The report and the summary of jobs of which none finished."""
    text = f"# {len(failures)} jobs, none of which finished\n\n{failed_section(failures)}"
    (folder / "report.md").write_text(text, encoding="utf-8")
    write_summary(folder, {"jobs": []}, failures)
