"""Ask the two networks before anything is trained with them."""

from __future__ import annotations

from pathlib import Path

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.risk import risk
from mcr.stages import model
from mcr.stages.artifacts import VET, read_material, read_network, read_spec, write_json
from mcr.stages.context import Context
from mcr.store import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Their accuracies on the held-out clean images. Raises InputError where neither does better than guessing."""
    config = stage.config
    context.prepare()
    spec = read_spec(inputs["data"])
    network = model.make(config, spec, config["seed"]).to(context.device_name)
    _, held = read_material(inputs, config["material"], context.device_name)
    batches = EvaluationBatches(held.images, held.labels, config["batch_size"], config["memory_format"])
    right = {}
    for role in ("start", "end"):
        network.load_state_dict(read_network(inputs[role]))
        right[role] = float(risk(network, batches)[1].double().mean())
    if max(right.values()) < config["floor"] / len(spec.classes):
        raise InputError(
            f"the networks are right on {100 * right['start']:.1f} and {100 * right['end']:.1f} % of the held-out "
            f"clean images, hardly more than by guessing: is their class order {', '.join(spec.classes)}, and is "
            "normalization= the one that they were trained with? training.floor=0 repairs them all the same"
        )
    write_json(folder / VET, right)
