"""How a report was made: in the folder of a run or a sweep, and not in the store."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mcr.reports import provenance
from mcr.store import identity

SOFTWARE = {
    "commit": "abc123-dirty",
    "python": "3.11.9",
    "platform": "Linux",
    "versions": dict.fromkeys(identity.PACKAGES, "9.8"),
}


@pytest.fixture(autouse=True)
def _software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "software", lambda: SOFTWARE)


def add(
    folder: Path, name: str, summary: dict[str, Any], *words: str, swept: bool = False
) -> tuple[str, dict[str, Any]]:
    (folder / name).write_text("# A report\n", encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    provenance.add(folder, [*(["-m"] if swept else []), "report", *words], words)
    return (folder / name).read_text(encoding="utf-8"), json.loads(
        (folder / "summary.json").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("name", ["report.md", "card.md"])
def test_a_report_ends_with_how_it_was_made(tmp_path: Path, name: str) -> None:
    stopped = "train end ended early: no better accuracy than 0.5"
    summary = {"title": "t", "warnings": [stopped, "gradients | masked"], "stopped": [stopped], "se": None}
    text, found = add(tmp_path, name, summary, "curve=bezier", "dataset.root=my photos")
    assert text.startswith("# A report\n\n## How this was made\n")
    assert shlex.split(found["made"]["command"]) == ["mcr", "report", "curve=bezier", "dataset.root=my photos"]
    assert "- Command: `mcr report curve=bezier 'dataset.root=my photos'`\n" in text.replace("''", "'")
    assert "- Settings that are not the defaults: `curve=bezier`, `dataset.root=my photos`\n" in text
    assert "mcr 9.8, torch 9.8, pytorch-lightning 9.8, numpy 9.8, Python 3.11.9; commit: abc123-dirty\n" in text
    assert text.count(stopped) == 1
    assert f"- Ended early: {stopped}" in text
    assert r"- Warning: gradients \| masked" in text
    assert found == {**summary, "made": found["made"]}
    assert datetime.fromisoformat(found["made"]["date"]).utcoffset() is not None
    assert (found["made"]["warnings"], found["made"]["stopped"]) == (summary["warnings"], [stopped])


def test_a_sweep_s_command_is_that_of_all_jobs_and_warnings_have_their_names(tmp_path: Path) -> None:
    jobs = [
        {"name": "one", "warnings": ["a", "b"], "stopped": []},
        {"name": "two", "warnings": ["b", "c"], "stopped": ["c"]},
    ]
    text, found = add(tmp_path, "report.md", {"jobs": jobs}, "curve=linear,bezier", swept=True)
    assert found["made"]["command"] == "mcr -m report curve=linear,bezier"
    assert found["made"]["warnings"] == ["one: a", "one: b", "two: b", "two: c"]
    assert found["made"]["stopped"] == ["two: c"]
    assert text.count("- Warning: ") == 3
    assert "- Ended early: two: c\n" in text


def test_a_run_without_settings_says_so(tmp_path: Path) -> None:
    text, found = add(tmp_path, "report.md", {"warnings": [], "stopped": []})
    assert "- Settings that are not the defaults: none\n" in text
    assert found["made"]["overrides"] == []
