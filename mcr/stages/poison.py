"""Choose the images that an attacker poisons."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from mcr.backdoors import planting, poisoning
from mcr.numerics.seeding import generator
from mcr.stages.artifacts import Poison, read_spec, read_split, write_poison
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.store.stage import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The stamped images' numbers in the train split and their labels, and how many of each class are poisoned."""
    config, part = stage.config, stage.config["poisoning"]
    spec = read_spec(inputs["data"])
    labels = read_split(inputs, "train", "cpu").labels
    backdoor = build(config["backdoor"])
    aimed = backdoor.aim(labels, len(spec.classes))
    ratio, sources, draw = part["ratio"], part["sources"], partial(generator, config["seed"])
    if part["labels"] == "clean":
        chosen, begin = poisoning.choose_clean(labels, aimed, ratio, draw("poison")), 0.0
    else:
        chosen, begin = poisoning.choose(labels, aimed, ratio, sources, draw("poison")), ratio
    # The same order goes on where the poisoned ones end.
    attacked, end = poisoning.attackable(labels, aimed, sources), begin + part["cover"]
    covers = poisoning.shares(labels, attacked, begin, end, draw("poison"))
    count = len(chosen) + len(covers)
    whole = part["pieces"] == planting.PIECES
    pieces = None if whole else planting.drawn(count, part["pieces"], draw("pieces"))
    facts = {
        "backdoor": config["backdoor"],
        "poisoned": len(chosen),
        "share of the training images": round(len(chosen) / len(labels), 6),
        "covers": len(covers),
        "of each class": {name: int((labels[chosen] == number).sum()) for number, name in enumerate(spec.classes)},
    }
    stamped, given = torch.cat([chosen, covers]), torch.cat([aimed[chosen], labels[covers]])
    write_poison(Poison(stamped, given, len(covers), pieces, part["stamp"], backdoor), facts, folder)
