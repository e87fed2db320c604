"""Write a merged network as a user's file, and a card beside it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch

from mcr.evaluation.table import markdown, write_csv
from mcr.reports import corners, merged, robustness
from mcr.stages import ends as known_ends
from mcr.stages import own_images, session
from mcr.stages.artifacts import MERGED, PRECHECK, SUMMARY
from mcr.stages.choose import as_given
from mcr.stages.context import Context
from mcr.stages.merged import merges
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.text import markdown_cell
from mcr.weightspace import files
from mcr.weightspace.subspace import Subspace


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The network under the names and in the types of the first file, card.md, merges.csv, summary.json."""
    config, pick = stage.config, stage.needs["pick"]
    space = session.subspace(pick.config, inputs, inputs["subspace"], context)
    (place,), (statistics,) = session.read_places(inputs["pick"])
    network = space.at_with(place, statistics)
    files.save(as_given(network, inputs.get("file")), folder / MERGED)
    found = merges(stage, inputs)
    stopped = known_ends.stopped(inputs)
    checked = jsonfile.read(inputs["precheck"] / PRECHECK)["warnings"] if "precheck" in inputs else []
    warnings = [*checked, *own_images.warnings(inputs), *stopped, *known_ends.faults(inputs)]
    warnings += merged.warnings(found, config["merges"]["far"])
    digest = hashlib.sha256((folder / MERGED).read_bytes()).hexdigest()
    origins = {name: _origin(stage.needs[f"end {index}"]) for index, name in enumerate(pick.config["ends"])}
    records = merged.records(found)
    write_csv(folder / "merges.csv", records)
    networks = _networks(space, pick.config["ends"])
    label = config["merges"]["labels"][config["merge"]]
    rows = [[name, digest] for name, digest in [*origins.items(), ("merged", digest)]]
    sections = [f"# {markdown_cell(config['title'])}: {label}\n", *robustness.warning_lines(warnings)]
    sections += [merged.section(found), "## Files\n", f"{markdown(['network', 'SHA-256'], rows)}\n"]
    sections += [corners.distances_section(networks)]
    (folder / "card.md").write_text("\n".join(sections), encoding="utf-8")
    summary = {
        "kind": "merge",
        "title": config["title"],
        "merge": label,
        "warnings": warnings,
        "stopped": stopped,
        "claims": [],
        "sha256": {**origins, "merged": digest},
        "distances": [asdict(one) for one in networks],
        "rows": records,
        "metrics": {merged.NAME: merged.known(found)},
    }
    jsonfile.write(folder / SUMMARY, summary)


def _origin(stage: Stage) -> str:
    """SHA-256 of the file that a network came from; of one that was trained here the key of its training."""
    while "init" in stage.needs:
        stage = stage.needs["init"]
    return str(stage.config["digest"]) if "digest" in stage.config else f"{stage.label} {stage.key}"


def _networks(space: Subspace, names: list[str]) -> list[corners.Network]:
    """Where the networks lie, before anything is merged."""
    weights = dict(zip(names, map(space.layout.pack, space.ends), strict=True))
    return [
        corners.Network(
            name,
            float(theta.norm()),
            {other: float(torch.dist(theta, weights[other])) for other in names},
        )
        for name, theta in weights.items()
    ]
