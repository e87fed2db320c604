"""What can be refused before a stage is begun: values out of range, unknown targets, missing devices."""

from __future__ import annotations

from pathlib import Path

from mcr import build
from mcr.datasets.augment import Augmentation
from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.stages.train import parts
from mcr.store import Stage
from mcr.training.fit import PRECISIONS
from mcr.weightspace import files

FORMATS = {"png", "svg", "pdf"}


def check(stage: Stage) -> None:
    """Build the stage's objects that need no data. Raises InputError for the first that cannot be built."""
    config = stage.config
    if stage.name == "data":
        build.build({**config["dataset"], **stage.places})
    if "architecture" in config:
        build.locate(config["architecture"]["_target_"])
    if "augmentation" in config:
        Augmentation(**config["augmentation"])
    if "curve" in config:
        build.build(config["curve"])
    if stage.name == "load":
        files.load_foreign(Path(stage.places["path"]))
    if stage.name == "report":
        _check_report(config["report"])
    if "recipe" in config:
        _check_recipe(stage.label, config["recipe"])
    if "evaluation" in config:
        part = config["evaluation"]
        grid(part["grid"])
        build.build(part["attack"])
        for name in ("train_images", "test_images", "robust_images", "batchnorm_images", "batch_size"):
            _positive(f"evaluation.{name}", part[name], word="all")


def _check_report(report: dict) -> None:
    unknown = set(report["formats"]) - FORMATS
    if unknown or "png" not in report["formats"]:
        allowed = ", ".join(sorted(FORMATS))
        raise InputError(f"report.formats={report['formats']}: any of {allowed}, png among them: report.md shows it")
    _positive("report.dpi", report["dpi"], word="")


def _check_recipe(label: str, recipe: dict) -> None:
    parts(recipe)
    for name in ("epochs", "batch_size"):
        _positive(f"{label}: {name}", recipe[name], word="")
    if recipe["precision"] not in PRECISIONS:
        raise InputError(f"{label}: precision={recipe['precision']} must be {' or '.join(PRECISIONS)}")
    if recipe.get("keep", "last") not in ("last", "best"):
        raise InputError(f"{label}: keep={recipe['keep']} must be last or best")
    if not 0 <= recipe.get("ema_decay", 0) < 1:
        raise InputError(f"{label}: ema_decay={recipe['ema_decay']} must lie in [0, 1)")
    if not recipe["optimizer"].get("lr", 1) > 0:
        raise InputError(f"{label}: optimizer lr={recipe['optimizer']['lr']} must be above 0")


def _positive(name: str, value: int | str, word: str) -> None:
    if value == word:
        return
    if isinstance(value, str) or value < 1:
        raise InputError(f"{name}={value} must be at least 1" + (f", or {word}" if word else ""))
