"""Make the chosen repair once more, on all clean images: the held-out ones have done their work."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

from mcr.stages.artifacts import CHOICE, CLEANED, REFITTED, write_network
from mcr.stages.choose import PLACE, RATE, as_given, make_benches
from mcr.stages.context import Context
from mcr.stages.suspects import Suspects
from mcr.store import jsonfile
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.weightspace import files

AGAIN = "again"  # below the stage's folder, until it is done: where trainings go on after an interruption


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The network, as an endpoint and as the user's file, and what the signals say of it.

    No image is left that could show what it lost of accuracy, so nothing is chosen here: the repair, its learning
    rate, its place are those that held-out images chose.
    """
    config = stage.config
    context.prepare()
    chosen = jsonfile.read(inputs["choose"] / CHOICE)["chosen"]
    trained = {role: place for role, place in inputs.items() if role.startswith((RATE, PLACE))}
    used = {role: place for role, place in inputs.items() if role not in trained}
    if "rate" in chosen:
        name = f"{chosen['repair']} {chosen['rate']:g}"
        folders = {need.key: inputs[role] for role, need in stage.needs.items()}
        for role in (f"{RATE}{name}", f"{PLACE}{name}"):
            if role in stage.needs:
                first = stage.needs[role]
                twin = replace(first, config={**first.config, "material": config["material"]})
                used[role] = folder / AGAIN / first.name
                used[role].mkdir(parents=True, exist_ok=True)
                needed = {own: folders[need.key] for own, need in first.needs.items()}
                importlib.import_module(f"mcr.stages.{first.name}").compute(twin, needed, used[role], context)
                folders[first.key] = used[role]
    bench = make_benches(stage, config, used, context)[chosen["repair"]]
    repaired = build(config["repairs"][chosen["repair"]]).rebuild(bench, chosen)
    write_network(repaired, folder)
    files.save(as_given(repaired, inputs.get("file")), folder / CLEANED)
    suspects = Suspects.of(stage.needs["choose"].config, inputs, bench, context)
    jsonfile.write(folder / REFITTED, suspects.suspicion(config).score(repaired) if suspects else {})
    shutil.rmtree(folder / AGAIN, ignore_errors=True)
