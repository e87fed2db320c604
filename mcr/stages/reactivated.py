"""The test on a card whether a backdoor comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mcr.backdoors.backdoor import Backdoor
from mcr.backdoors.poisoning import attackable
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.repairs.bench import Bench
from mcr.stages.artifacts import SPLIT_SUMMARY, read_material, read_spec, read_split
from mcr.stages.context import Context
from mcr.stages.scorecard import Scorecard
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.training.reactivation import reactivation
from mcr.types import LabelledImages
from mcr.weightspace.states import load_state


def reactivated(
    stage: Stage,
    inputs: dict[str, Path],
    bench: Bench,
    context: Context,
    states: Mapping[str, Mapping[str, Tensor]],
    scorecard: Scorecard,
) -> dict[str, dict[str, float]]:
    """Network to steps to attack success; nothing where no trigger is known or the test is left out.

    The few triggered images are validation images, or clean ones where there is no validation split.
    """
    config, part, recipe = stage.config, stage.config["card"]["reactivation"], stage.needs["choose"].config
    counts = json.loads((inputs["split"] / SPLIT_SUMMARY).read_text(encoding="utf-8"))
    if not config["backdoor"] or not part["images"]:
        return {}
    if counts["validation"]:
        images = read_split(inputs, "validation", context.device_name)
    else:
        images, _ = read_material(inputs, recipe["material"], context.device_name)
    few, watched = (_triggered(config, found, inputs) for found in (images, scorecard.clean))
    if not len(few.labels):
        return {}
    batch = (to_unit(few.images[: part["images"]], recipe["memory_format"]), few.labels[: part["images"]])
    found = {}
    for name, state in states.items():
        load_state(bench.network, state)
        data = scorecard.clean.like(watched.images, watched.labels)
        found[name] = reactivation(bench.network, batch, data, part["steps"], part["rate"])
    return {name: {str(steps): value for steps, value in values.items()} for name, values in found.items()}


def _triggered(
    config: Mapping[str, Any], part: LabelledImages | EvaluationBatches, inputs: dict[str, Path]
) -> LabelledImages:
    """The images that can be attacked, with the trigger and the attacker's labels."""
    backdoor: Backdoor = build(config["backdoor"])
    aimed = backdoor.aim(part.labels, len(read_spec(inputs["data"]).classes))
    chosen = attackable(part.labels, aimed, config["sources"])
    return LabelledImages(backdoor.stamp(part.images[chosen]), aimed[chosen])
