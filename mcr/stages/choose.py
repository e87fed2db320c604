"""Choose the repaired network among candidates, by images of the clean split alone and without knowing the trigger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.progress import bar
from mcr.repairs.asked import asked
from mcr.repairs.bench import Bench, Trained, Walked
from mcr.repairs.held_out import HeldOutScore
from mcr.stages import session
from mcr.stages.artifacts import (
    CHOICE,
    CLEANED,
    NAMES,
    NETWORK,
    PREFIX,
    read_material,
    read_network,
    read_spec,
    write_network,
)
from mcr.stages.context import Context
from mcr.stages.suspects import Suspects
from mcr.store import jsonfile
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.types import LabelledImages
from mcr.weightspace import files
from mcr.weightspace.layout import Layout

RATE, PLACE = "rate ", "place "  # the roles of a training of a repair, and of its places


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The repaired network, as an endpoint and as the user's file, and all candidates with the reason of the choice.

    Raises:
        InputError: Where the rule needs signals and none are asked, the images are too few, or a value does not fit
            into the user's file.
    """
    config = stage.config
    context.prepare()
    benches = make_benches(stage, config, inputs, context)
    base = next(iter(benches.values()))
    fitted, held = read_material(inputs, config["material"], context.device_name)
    watched = EvaluationBatches(held.images, held.labels, config["batch_size"], config["memory_format"])
    judge = HeldOutScore.of(base, watched)
    suspects = Suspects.of(config, inputs, base, context)
    suspected = suspects.suspicion(config) if suspects else None
    spec = read_spec(inputs["data"])
    best = max(judge.ends.values())
    repairs = {name: (build(repair), benches[name]) for name, repair in config["repairs"].items()}
    with bar(stage.label, 1, "choice") as progress:
        candidates = asked(repairs, judge, suspected)
        choice = build(config["selection"]).choose(candidates)
        progress.reach(1, f"{sum(choice.allowed)} of {len(candidates)} keep the accuracy")
    chosen = candidates[choice.index]
    repair, bench = repairs[chosen["repair"]]
    repaired = repair.rebuild(bench, chosen)
    write_network(repaired, folder)
    files.save(as_given(repaired, inputs.get("file")), folder / CLEANED)
    jsonfile.write(
        folder / CHOICE,
        {
            "chosen": chosen,
            "kept": choice.kept,
            "better_less_margin": best - config["selection"]["margin"],
            "ends": dict(judge.ends),
            "candidates": [
                {**found, "allowed": keeps} for found, keeps in zip(candidates, choice.allowed, strict=True)
            ],
            "suspicion": suspected.described if suspected else {},
            "selection": config["selection"],
            "images": {"fitted": len(fitted.labels), "held_out": len(held.labels)},
            "of_each_class": {
                name: int((fitted.labels == number).sum() + (held.labels == number).sum())
                for number, name in enumerate(spec.classes)
            },
            "sha256": {
                **{
                    name: _origin(stage.needs[f"end {index}"], inputs[f"end {index}"])
                    for index, name in enumerate(config["ends"])
                },
                "clean_images": _digest(fitted, held),
                "cleaned": hashlib.sha256((folder / CLEANED).read_bytes()).hexdigest(),
            },
        },
    )


def make_benches(
    stage: Stage, config: Mapping[str, Any], inputs: Mapping[str, Path], context: Context
) -> dict[str, Bench]:
    """Name of each repair to the given networks, and what the stages among the inputs trained for it.

    A repair whose trainings are not among them gets none.

    Args:
        stage: Needs what trained, under the roles of ``inputs``.
        config: Of a ``choose`` stage, which another stage may ask for.
        inputs: Role to folder.
        context: Names the device.
    """
    network = session.network(config, inputs, context, config["seed"], config["memory_format"])
    trained: dict[str, dict[float, Trained]] = {name: {} for name in config["repairs"]}
    for role, folder in inputs.items():
        if not role.startswith(RATE):
            continue
        name, rate = role.removeprefix(RATE).rsplit(" ", 1)
        place = f"{PLACE}{name} {rate}"
        if place in inputs:
            # The places were made with a part of the images; whoever repeats the repair on all has them as material.
            placed = {**stage.needs[place].config, "material": config["material"]}
            space = session.subspace(placed, inputs, folder, context, network)
            trained[name][float(rate)] = Walked(space, *session.read_places(inputs[place]))
        else:
            trained[name][float(rate)] = read_network(folder)
    calibration = session.calibration(config, inputs, context)
    states = dict(zip(config["ends"], session.ends(inputs), strict=True))
    base = Bench(network, Layout.of(network, config["memory_format"]), states, {}, calibration, config["seed"])
    return {name: replace(base, trained=found) for name, found in trained.items()}


def as_given(network: nn.Module, file: Path | None) -> dict[str, Tensor]:
    """The network's state under the names and in the types of the file that it came from, if it came from one.

    Raises:
        InputError: For a value that its type in the file cannot hold.
    """
    state = {name.removeprefix(PREFIX): tensor for name, tensor in network.state_dict().items()}
    found = {given: state[name].to(getattr(torch, kind)) for name, (given, kind) in _names(file, state).items()}
    for name, tensor in found.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise InputError(f"the repaired {name} does not fit into {tensor.dtype}: give the network as float32")
    return found


def read_cleaned(folder: Path, file: Path | None) -> dict[str, Tensor]:
    """The repaired network as a user loads it, under this program's names, with the counters that the file lacks."""
    found = files.load(folder / CLEANED)
    cleaned = {PREFIX + name: found[given] for name, (given, _) in _names(file, found).items()}
    return {**read_network(folder), **cleaned}


def _names(file: Path | None, state: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """The network's names to those in the user's file and their types there; to themselves without a file."""
    if file is None:
        return {name: (name, str(tensor.dtype).removeprefix("torch.")) for name, tensor in state.items()}
    found: dict[str, tuple[str, str]] = json.loads((file / NAMES).read_text(encoding="utf-8"))
    return found


def _origin(stage: Stage, folder: Path) -> str:
    """SHA-256 of a network's file: the user's, where it came from one."""
    if "digest" in stage.config:
        return str(stage.config["digest"])
    return hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()


def _digest(*parts: LabelledImages) -> str:
    """SHA-256 over the bytes of images, uint8 (N, D, H, W), and labels, int64 (N,), part by part."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.images.cpu().numpy().tobytes())
        found.update(part.labels.cpu().numpy().tobytes())
    return found.hexdigest()
