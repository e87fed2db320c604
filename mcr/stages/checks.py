"""What can be refused before a stage is begun: values out of range, unknown targets, missing devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mcr import build
from mcr.datasets.augment import Augmentation
from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.evaluation.summary import summarize
from mcr.reports.claims import judge
from mcr.stages.train import parts
from mcr.store import Stage
from mcr.training.fit import PRECISIONS
from mcr.weightspace import files

FORMATS = {"png", "svg", "pdf"}
MEMORY_FORMATS = ("channels_last", "contiguous")
# What a path's summary will hold for each metric.
STATISTICS = summarize([0.0, 0.5, 1.0], [0.0, 1.0, 2.0], {"any": np.zeros((3, 2))})["any"]


def check(stage: Stage) -> None:
    """Build the stage's objects that need no data. Raises InputError for the first that cannot be built."""
    config = stage.config
    if stage.name == "data":
        build.build({**config["dataset"], **stage.places})
    if "architecture" in config:
        build.check_arguments({key: value for key, value in config["architecture"].items() if key != "source"})
    if "augmentation" in config:
        Augmentation(**config["augmentation"])
    if "curve" in config:
        build.build(config["curve"])
    if stage.name == "load":
        files.load_foreign(Path(stage.places["path"]))
    if stage.name == "report":
        _check_report(config["report"])
        for claim in config["claims"]:
            judge(claim, {claim["quantity"].partition(".")[0]: STATISTICS})
    if "recipe" in config:
        _check_recipe(stage.label, config["recipe"])
    if "evaluation" in config:
        part = config["evaluation"]
        grid(part["grid"])
        build.build(part["attack"])
        _check_format(stage.label, part)
        for name in ("train_images", "test_images", "robust_images", "batchnorm_images", "batch_size"):
            _positive(f"evaluation.{name}", part[name], word="all")


def _check_report(report: dict) -> None:
    unknown = set(report["formats"]) - FORMATS
    if unknown or "png" not in report["formats"]:
        allowed = ", ".join(sorted(FORMATS))
        raise InputError(f"report.formats={report['formats']}: any of {allowed}, png among them: report.md shows it")
    _positive("report.dpi", report["dpi"], word="")


def _check_recipe(label: str, recipe: dict) -> None:
    made = parts(recipe)
    if recipe["objective"].get("attack", {}).get("_target_", "").endswith(".NoAttack"):
        raise InputError(f"{label}: an adversarial objective needs an attack; attack=none has none")
    try:
        made["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise InputError(f"{label}: optimizer: {error}") from None
    _check_format(label, recipe)
    for name in ("epochs", "batch_size"):
        _positive(f"{label}: {name}", recipe[name], word="")
    if recipe["precision"] not in PRECISIONS:
        raise InputError(f"{label}: precision={recipe['precision']} must be {' or '.join(PRECISIONS)}")
    if recipe.get("keep", "last") not in ("last", "best"):
        raise InputError(f"{label}: keep={recipe['keep']} must be last or best")
    if not 0 <= recipe.get("ema_decay", 0) < 1:
        raise InputError(f"{label}: ema_decay={recipe['ema_decay']} must lie in [0, 1)")


def _check_format(label: str, recipe: dict) -> None:
    if recipe["memory_format"] not in MEMORY_FORMATS:
        raise InputError(f"{label}: memory_format={recipe['memory_format']} must be {' or '.join(MEMORY_FORMATS)}")


def _positive(name: str, value: int | str, word: str) -> None:
    if value == word:
        return
    if isinstance(value, str) or value < 1:
        raise InputError(f"{name}={value} must be at least 1" + (f", or {word}" if word else ""))
