"""What a stage will take: its own code is run for a few steps or places, and the time of the rest follows."""

from __future__ import annotations

import importlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mcr import progress
from mcr.stages import session, train
from mcr.stages.artifacts import SPLIT, check_material, read_spec
from mcr.stages.stand_ins import IMAGES, StandIns, few_for_batchnorm, few_images, few_places
from mcr.store.build import build, build_tree
from mcr.store.stage import Stage
from mcr.weightspace import files, locus

EPOCHS = 3  # of which the first warms up
MOST_STEPS = 16  # an epoch of no more is measured whole
FEW, MORE = 3, 9  # steps of two epochs, whose difference is that of single steps
MANY = 1024  # images that a probe is asked on which is done with fewer ...
LONG = 1.0  # ... in so many seconds a place: what a place takes without images is not to be multiplied
COPIES = 3  # of the images in memory: the file's pages, those that were read, and those in the order they are moved in


@dataclass(frozen=True)
class Price:
    """What a stage takes.

    Attributes:
        seconds: Of this machine as busy as it was when they were measured.
        bytes: Of memory at most, of the whole process.
    """

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Timing:
    """Seconds of a run of a stage: until its bar appeared, of each unit of the bar, after the last one."""

    before: float
    each: list[float]
    after: float


def price(stage: Stage, stand_ins: StandIns) -> Price:
    """What a stage takes, measured in this process, which has done nothing else.

    Args:
        stage: One of train, connect, place and measure is shortened; another one is run as it is.
        stand_ins: Give what it needs.
    """
    kinds = {"train": _training, "connect": _training, "place": _places, "measure": _question}
    kind = kinds.get(stage.name, _whole)
    begin = _most()
    with progress.heard(lambda done: None):  # the work on what it needs
        seconds, left_out = kind(stage, stand_ins)
    most = max(begin, _loaded()) + _most() - begin
    if torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated()
    return Price(seconds, most + COPIES * left_out)


def _most() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _loaded() -> int:
    """Bytes of the process that this one was forked from: of libraries a fork counts only the pages that it touches."""
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text(encoding="utf-8")
    except OSError:  # another system than Linux
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _run(stage: Stage, inputs: Mapping[str, Path], stand_ins: StandIns) -> Timing:
    told: dict[int, float] = {}

    def listen(done: int) -> None:
        told[done] = time.perf_counter()

    with tempfile.TemporaryDirectory(dir=stand_ins.folder) as folder:
        begin = time.perf_counter()
        with progress.heard(listen):
            compute = importlib.import_module(f"mcr.stages.{stage.name}").compute
            compute(stage, dict(inputs), Path(folder), stand_ins.context)
        end = time.perf_counter()
    reached = sorted(told)
    each = [told[later] - told[earlier] for earlier, later in pairwise(reached)]
    return Timing(told[0] - begin, each, end - told[reached[-1]]) if told else Timing(end - begin, [], 0.0)


def _whole(stage: Stage, stand_ins: StandIns) -> tuple[float, int]:
    found = _run(replace(stage, config=_any_network(stage.config)), stand_ins.of(stage), stand_ins)
    return found.before + sum(found.each) + found.after, 0


def _training(stage: Stage, stand_ins: StandIns) -> tuple[float, int]:
    """Epochs, of steps that all take the same, and of what comes once an epoch: validation and checkpoint."""
    if "recipe" not in stage.config:
        return _whole(stage, stand_ins)
    recipe, material = stage.config["recipe"], stage.config["material"]
    length, budget = train.epochs(recipe)
    epochs = recipe.get("stop", length)
    inputs = stand_ins.of(stage)
    count, held = check_material(material, len(files.load(inputs["split"] / SPLIT)[material["split"]]))
    steps = budget or max(1, (count - held) // recipe["batch_size"])
    can_be_cut = bool(budget) or (material["images"] == "all" and not held)
    if steps <= MOST_STEPS or not can_be_cut:
        found = _run(_short(stage, EPOCHS, steps), inputs, stand_ins)
        return found.before + epochs * median(found.each[1:]) + found.after, 0

    def timed(epochs: int, steps: int) -> Timing:
        few = stand_ins.of(stage, None if budget else steps * recipe["batch_size"])
        return _run(_short(stage, epochs, steps), few, stand_ins)

    first, second = timed(EPOCHS - 1, FEW), timed(1, MORE)
    step = (second.each[-1] - first.each[-1]) / (MORE - FEW)
    each = first.each[-1] + (steps - FEW) * step
    unread = 0 if budget else (count - MORE * recipe["batch_size"]) * _bytes(inputs)
    return first.before + epochs * each + first.after, unread


def _any_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration to which a network is good enough that guesses."""
    least = {"min_accuracy_over_chance": 0.0} if "min_accuracy_over_chance" in config else {}
    return {**config, **least}


def _short(stage: Stage, epochs: int, steps: int) -> Stage:
    """A training of so many epochs, of so many steps where its budget is given in steps."""
    recipe = _any_network(stage.config["recipe"])
    recipe |= {"steps": epochs * steps, "steps_per_epoch": steps} if "steps" in recipe else {"epochs": epochs}
    recipe |= {"stop": epochs} if "stop" in recipe else {}
    return replace(stage, config={**stage.config, "recipe": recipe})


def _places(stage: Stage, stand_ins: StandIns) -> tuple[float, int]:
    found = _run(few_places(stage), stand_ins.of(stage), stand_ins)
    return found.before + _count(stage) * median(found.each) + found.after, 0


def _count(place: Stage) -> int:
    return len(locus.places(build(place.config["curve"]), place.config["at"], "evaluation.grid"))


def _question(stage: Stage, stand_ins: StandIns) -> tuple[float, int]:
    """At every place, and at the ends as they were given, on every image; of a group of networks at once."""
    place, probe = stage.needs["place"], build_tree(stage.config["probe"])
    together = hasattr(probe, "ask")
    near = few_for_batchnorm(place if together else few_places(place))
    for most in (IMAGES, MANY):
        few = replace(few_images(stage, most), needs={**stage.needs, "place": near})
        inputs = stand_ins.of(few)
        images = _images(stage, inputs)
        found = _run(*stand_ins.withstanding(few, inputs), stand_ins)
        if images <= most or median(found.each) > LONG:
            break
    share = images / min(images, most)
    left_out = max(0, images - most) * _bytes(inputs)
    if together:
        return found.before + share * found.each[0] + found.after, left_out
    ends = sum(role.startswith(session.END) for role in inputs)
    asked = (ends + 1 if stage.config["at"] == "worst" else _count(place)) + ends
    return found.before + asked * share * median(found.each), left_out


def _images(stage: Stage, inputs: Mapping[str, Path]) -> int:
    """How many images a probe is asked on; those of an injection are few."""
    kind, wanted = stage.config["data"], stage.config["images"]
    if kind in ("injected", "restored"):
        return 1
    splits = files.load(inputs["split"] / SPLIT)
    material = stage.needs["place"].config["material"]
    if kind == "fitted":
        count, held = check_material(material, len(splits[material["split"]]))
        owned = count - held
    else:
        owned = len(splits[kind])
    return owned if wanted == "all" else min(owned, int(wanted))


def _bytes(inputs: Mapping[str, Any]) -> int:
    """Of one image."""
    spec = read_spec(inputs["data"])
    return spec.channels * spec.image_size[0] * spec.image_size[1]
