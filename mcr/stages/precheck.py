"""Ask the networks before anything is trained with them."""

from __future__ import annotations

from pathlib import Path

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.risk import risk
from mcr.stages import session
from mcr.stages.artifacts import PRECHECK, read_material, read_spec
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Accuracies on the held-out clean images. Raises InputError where no network does better than guessing."""
    config = stage.config
    context.prepare()
    spec = read_spec(inputs["data"])
    network = session.network(config, inputs, context, config["seed"], config["memory_format"])
    _, held = read_material(inputs, config["material"], context.device_name)
    batches = EvaluationBatches(held.images, held.labels, config["batch_size"], config["memory_format"])
    right = {}
    for name, state in zip(config["ends"], session.ends(inputs), strict=True):
        network.load_state_dict(state)
        right[name] = float(risk(network, batches)[1].double().mean())
    if max(right.values()) < config["min_accuracy_over_chance"] / len(spec.classes):
        raise InputError(
            f"the networks are right on {' and '.join(f'{100 * value:.1f}' for value in right.values())} % of the "
            "held-out clean images, hardly more than by guessing: is their class order "
            f"{', '.join(spec.classes)}, and is normalization= the one that they were trained with? "
            "training.min_accuracy_over_chance=0 repairs them all the same"
        )
    jsonfile.write(folder / PRECHECK, right)
