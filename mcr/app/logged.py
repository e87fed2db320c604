"""What a job tells its logger when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr.app import published
from mcr.app.titles import title
from mcr.loggers.job import Job, log_job
from mcr.loggers.place import Place
from mcr.plans import pipeline, plugins
from mcr.store import jsonfile
from mcr.store.store import Store

WEIGHTS = {"ends": "network.safetensors", "path": "control.safetensors"}  # of a training, of a fitted subspace


def log(
    cfg: dict[str, Any], words: Sequence[str], folder: Path, group: str, stages: Mapping[str, str], reason: str = ""
) -> None:
    """Tell the logger of a job that it ended, and what it found."""
    place = Place(plugins.marked(cfg)["logger"], group, folder.absolute())
    found = folder / "summary.json"
    summary = jsonfile.read(found) if found.is_file() and not reason else {}
    asked, tags = published.asked(cfg, words), published.tags(cfg)
    weights = {} if reason else _weights(cfg)
    log_job(Job(title(cfg), cfg["verb"], asked, tags, stages, folder, summary, reason, weights), place)


def _weights(cfg: dict[str, Any]) -> dict[str, Path]:
    """The files of weights that the logger asks for: name to place."""
    asked = [WEIGHTS[name] for name in cfg["logger"].get("artifacts", ())]
    if not asked:
        return {}
    store = Store(cfg["paths"]["store"])
    stages = pipeline.ordered(pipeline.plan(cfg, title(cfg))[cfg["verb"]])
    places = [(stage, store.folder(stage) / name) for stage in stages for name in asked]
    return {f"{stage.label}-{stage.key}".replace(" ", "-"): path for stage, path in places if path.is_file()}
