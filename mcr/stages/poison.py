"""Choose the images that an attacker poisons."""

from __future__ import annotations

from pathlib import Path

from mcr.backdoors import poisoning
from mcr.numerics.seeding import generator
from mcr.stages.artifacts import Poison, read_spec, read_split, write_poison
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.store.stage import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The poisoned images' numbers in the train split, their new labels, and how many of each class they are."""
    config, part = stage.config, stage.config["poisoning"]
    spec = read_spec(inputs["data"])
    labels = read_split(inputs, "train", "cpu").labels
    backdoor = build(config["backdoor"])
    aimed = backdoor.aim(labels, len(spec.classes))
    chosen = poisoning.choose(labels, aimed, part["ratio"], part["sources"], generator(config["seed"], "poison"))
    facts = {
        "backdoor": config["backdoor"],
        "poisoned": len(chosen),
        "share of the training images": round(len(chosen) / len(labels), 6),
        "of each class": {name: int((labels[chosen] == number).sum()) for number, name in enumerate(spec.classes)},
    }
    write_poison(Poison(chosen, aimed[chosen], part["stamp"], backdoor), facts, folder)
