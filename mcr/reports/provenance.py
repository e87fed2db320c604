"""How the report in a folder was made: added to the copy that people open, never to what is stored by its recipe.

A stage's files are the same for the same recipe, whoever asks for it and when. No torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcr.store import identity, jsonfile
from mcr.text import markdown_cell, markdown_code

DOCUMENTS, RECORDS = ("report.md", "card.md"), ("summary.json", "card.json")
PACKAGES = ("mcr", "torch", "pytorch-lightning", "numpy")  # whose versions people ask for; the stages have more
MOST = 4000  # characters of a line


def add(folder: Path, command: Sequence[str], words: Sequence[str]) -> None:
    """The section "How this was made" at the end of report.md or card.md, and ``made`` in summary.json and card.json.

    Args:
        folder: Of a run or a sweep, with its report.
        command: The words of the command line.
        words: The overrides among them.
    """
    summary = jsonfile.read(folder / "summary.json")
    made = _made(command, words, summary)
    for name in RECORDS:
        if (folder / name).is_file():
            jsonfile.write(folder / name, {**jsonfile.read(folder / name), "made": made})
    for name in DOCUMENTS:
        if (folder / name).is_file():
            with (folder / name).open("a", encoding="utf-8") as stream:
                stream.write(f"\n{section(made)}")


def _made(command: Sequence[str], words: Sequence[str], summary: Mapping[str, Any]) -> dict[str, Any]:
    jobs = [(f"{job['name']}: ", job) for job in summary["jobs"]] if "jobs" in summary else [("", summary)]
    software = identity.software()
    return {
        "command": shlex.join(["mcr", *command]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": software["commit"],
        "python": software["python"],
        "versions": {name: software["versions"][name] for name in PACKAGES},
        "overrides": list(words),
        **{kind: [f"{name}{line}" for name, job in jobs for line in job[kind]] for kind in ("warnings", "stopped")},
    }


def section(made: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    settings = ", ".join(markdown_code(word) for word in made["overrides"]) or "none"
    lines = [
        f"Command: {markdown_code(made['command'])}",
        f"Date: {made['date']}",
        f"Versions: {markdown_cell(versions)}, Python {made['python']}; commit: {markdown_cell(made['commit'])}",
        f"Settings that are not the defaults: {settings}",
        *(f"Warning: {markdown_cell(line, MOST)}" for line in made["warnings"] if line not in made["stopped"]),
        *(f"Ended early: {markdown_cell(line, MOST)}" for line in made["stopped"]),
    ]
    return "## How this was made\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"
