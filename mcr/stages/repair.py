"""Repair the start network. Of all images this stage reads the clean split alone, and it knows no trigger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcr.build import build
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, augmented_batches
from mcr.errors import InputError
from mcr.evaluation.summary import standard_error
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.progress import bar
from mcr.repairs.bench import Bench
from mcr.stages import model
from mcr.stages.artifacts import (
    CHOICE,
    CLEANED,
    NAMES,
    NETWORK,
    PREFIX,
    read_material,
    read_network,
    read_spec,
    write_json,
    write_network,
)
from mcr.stages.connect import read_control
from mcr.stages.context import Context
from mcr.stages.route import CALIBRATION_BATCH
from mcr.store import Stage
from mcr.types import Part
from mcr.weightspace import files
from mcr.weightspace.layout import Layout

RATE = "rate "  # the roles of what was trained on the clean images


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The repaired network, as an endpoint and as the user's file, and all candidates with the reason of the choice."""
    config = stage.config
    context.prepare()
    bench = make_bench(config, inputs, context)
    fitted, held = read_material(inputs, config["material"], context.device_name)
    watched = EvaluationBatches(held.images, held.labels, config["batch_size"], config["memory_format"])
    judge = Judge.of(bench, watched)
    spec = read_spec(inputs["data"])
    best = max(judge.ends)
    method = build(config["repair"])
    candidates: list[dict[str, float]] = []
    with bar(stage.label, 1, "choice") as progress:
        for candidate, network in method.candidates(bench):
            candidates.append({**candidate, **judge.ask(network)})
        choice = build(config["selection"]).choose(candidates)
        progress.reach(1, f"{sum(choice.allowed)} of {len(candidates)} keep the accuracy")
    chosen = candidates[choice.index]
    repaired = method.rebuild(bench, chosen)
    write_network(repaired, folder)
    files.save(as_given(repaired, inputs.get("file")), folder / CLEANED)
    write_json(
        folder / CHOICE,
        {
            "chosen": chosen,
            "kept": choice.kept,
            "better_less_margin": best - config["selection"]["margin"],
            "ends": {"start": judge.ends[0], "end": judge.ends[1]},
            "candidates": [
                {**found, "allowed": keeps} for found, keeps in zip(candidates, choice.allowed, strict=True)
            ],
            "selection": config["selection"],
            "images": {"fitted": len(fitted.labels), "held_out": len(held.labels)},
            "of_each_class": {
                name: int((fitted.labels == number).sum() + (held.labels == number).sum())
                for number, name in enumerate(spec.classes)
            },
            "sha256": {
                "start": _origin(stage.needs["start"], inputs["start"]),
                "end": _origin(stage.needs["end"], inputs["end"]),
                "clean_images": _digest(fitted, held),
                "cleaned": hashlib.sha256((folder / CLEANED).read_bytes()).hexdigest(),
            },
        },
    )


def make_bench(config: Mapping[str, Any], inputs: Mapping[str, Path], context: Context) -> Bench:
    """The networks and what was trained, from the stages' folders; only the rates that are among the inputs."""
    network = model.make(config, read_spec(inputs["data"]), config["seed"]).to(context.device_name)
    network.to(memory_format=context.memory_format(config))
    layout = Layout.of(network, config["memory_format"])
    ends = (read_network(inputs["start"]), read_network(inputs["end"]))
    curve = build(config["curve"]) if "curve" in config else None
    trained: dict[float, Any] = {}
    for role, folder in inputs.items():
        if role.startswith(RATE):
            rate = float(role.removeprefix(RATE))
            if curve is not None:
                points = [layout.pack(ends[0]), *read_control(folder, curve.points, layout), layout.pack(ends[1])]
                trained[rate] = [point.to(context.device_name) for point in points]
            else:
                trained[rate] = read_network(folder)
    fitted, _ = read_material(dict(inputs), config["material"], context.device_name)
    calibration = partial(
        augmented_batches,
        fitted.images[: None if config["batchnorm_images"] == "all" else config["batchnorm_images"]],
        Augmentation(**config["augmentation"]),
        CALIBRATION_BATCH,
        config["memory_format"],
        config["seed"],
    )
    return Bench(network, layout, ends, curve, trained, calibration, config["seed"])


@dataclass(frozen=True)
class Judge:
    """What held-out clean images say of a candidate.

    Attributes:
        batches: The held-out images.
        outputs: Log-probabilities (N, C) of the start and of the end network there.
        ends: Their accuracies.
    """

    batches: EvaluationBatches
    outputs: tuple[Tensor, Tensor]
    ends: tuple[float, float]

    @classmethod
    def of(cls, bench: Bench, batches: EvaluationBatches) -> Judge:
        """Ask the two networks first, each with its own BatchNorm statistics."""
        outputs = []
        for state in bench.ends:
            bench.network.load_state_dict(state)
            outputs.append(log_probabilities(bench.network, batches))
        right = [float((found.argmax(1) == batches.labels.cpu()).double().mean()) for found in outputs]
        return cls(batches, (outputs[0], outputs[1]), (right[0], right[1]))

    def ask(self, network: nn.Module) -> dict[str, float]:
        """Accuracy, its loss against the better network with standard error, and the divergence from each network."""
        found = log_probabilities(network, self.batches)
        better = self.outputs[int(self.ends[1] > self.ends[0])]
        right, before = ((part.argmax(1) == self.batches.labels.cpu()).double() for part in (found, better))
        lost = before - right
        return {
            "accuracy": float(right.mean()),
            "lost": float(lost.mean()),
            "lost_se": standard_error(lost.numpy()),
            "from_start": float(jensen_shannon(self.outputs[0], found).mean()),
            "from_end": float(jensen_shannon(self.outputs[1], found).mean()),
        }


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
    """The repaired network as a user loads it, under this program's names."""
    found = files.load(folder / CLEANED)
    return {PREFIX + name: found[given] for name, (given, _) in _names(file, found).items()}


def _names(file: Path | None, state: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """The network's names to those in the user's file and their types there; to themselves without a file."""
    if file is None:
        return {name: (name, str(tensor.dtype).removeprefix("torch.")) for name, tensor in state.items()}
    found: dict[str, tuple[str, str]] = json.loads((file / NAMES).read_text())
    return found


def _origin(stage: Stage, folder: Path) -> str:
    """SHA-256 of a network's file: the user's, where it came from one."""
    if "digest" in stage.config:
        return str(stage.config["digest"])
    return hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()


def _digest(*parts: Part) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.images.cpu().numpy().tobytes())
        found.update(part.labels.cpu().numpy().tobytes())
    return found.hexdigest()
