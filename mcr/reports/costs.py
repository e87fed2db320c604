"""What a repair took: seconds, forward passes, memory. They stand on the copy of the card that people open.

A stage's record says what it took when it was made, here or in an earlier run; its files, and the card in the store, do
not: they are the same whoever makes them. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr.evaluation.table import markdown
from mcr.store import jsonfile
from mcr.store.manifest import RECORD
from mcr.text import markdown_cell

TRAINED = ("rate ", "place ")  # the beginnings of roles of what a repair trained, before its name and its rate
PARTS = {
    "reference": "from scratch, to compare with",
    "choose": "signals and choice",
    "refit": "the chosen one once more",
}
TOTAL, CARD = "in all", "this card"
SECONDS, PASSES, MEMORY = "seconds", "forward_passes", "peak_megabytes"


def add(folder: Path, card: Path) -> None:
    """The section "What it cost" at the end of card.md, and ``cost`` in card.json.

    Args:
        folder: Of a run, with copies of both.
        card: The card's folder in the store.
    """
    rows = of(card)
    jsonfile.write(folder / "card.json", {**jsonfile.read(folder / "card.json"), "cost": rows})
    with (folder / "card.md").open("a", encoding="utf-8") as stream:
        stream.write(f"\n{section(rows)}")


def of(card: Path) -> list[dict[str, Any]]:
    """What each repair's trainings, the reference, the choice and the card took, and their sum.

    Args:
        card: The card's folder in the store, whose record names the others.

    Returns:
        Of each: what it is (``of``), how many ``stages``, and ``seconds``, ``forward_passes`` and ``peak_megabytes``
        (the largest) where all of them have such a record. A stage that two of them share, such as the reference where
        ``scratch`` is a repair too, counts once in the sum.
    """
    record = json.loads((card / RECORD).read_text(encoding="utf-8"))
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for role, need in record["needs"].items():
        begin = next((begin for begin in TRAINED if role.startswith(begin)), None)
        name = role.removeprefix(begin).rsplit(" ", 1)[0] if begin else PARTS.get(role)
        if name is not None:
            parts.setdefault(name, {})[need["key"]] = _spent(card.parents[1] / need["stage"] / need["key"])
    parts[CARD] = {record["key"]: _known(record["provenance"])}
    every = {key: spent for part in parts.values() for key, spent in part.items()}
    return [_row(name, list(part.values())) for name, part in (*parts.items(), (TOTAL, every))]


def _spent(folder: Path) -> Mapping[str, Any]:
    """What a stage's record says; nothing where it was removed from the store since."""
    if not (folder / RECORD).is_file():
        return {}
    found: Mapping[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))["provenance"]
    return _known(found)


def _known(spent: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was recorded of all of a stage's making: nothing where it went on after an interruption."""
    return {} if "resumed" in spent else spent


def _row(name: str, stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"of": name, "stages": len(stages)}
    for key, total in ((SECONDS, sum), (PASSES, sum), (MEMORY, max)):
        if all(key in stage for stage in stages):
            row[key] = total(stage[key] for stage in stages)
    return row


def section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same as Markdown."""
    lines = [
        [
            markdown_cell(row["of"].replace("_", " ")),
            str(row["stages"]),
            f"{row[SECONDS]:.1f}" if SECONDS in row else "",
            f"{row[PASSES]:,}" if PASSES in row else "",
            f"{row[MEMORY]:,}" if MEMORY in row else "",
        ]
        for row in rows
    ]
    table = markdown(["", "stages", "seconds", "forward passes", "peak memory, MB"], lines)
    text = (
        "As recorded when each was made, in this run or before, on this machine or another. Forward passes: images "
        "through networks, of validation and BatchNorm's statistics too. Memory: of the whole process, or of the GPU. "
        "Empty: not recorded, or not of all of it (made in several goes, after an interruption)."
    )
    return f"## What it cost\n\n{table}\n\n{text}\n"
