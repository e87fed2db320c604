"""Every experiment composes, states its command and its claims, and runs in its tiny form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mcr import pipeline, run
from mcr.cli import conf_folder
from mcr.reports.claims import RELATIONS
from mcr.stages.context import Context
from mcr.store import Store

EXPERIMENTS = sorted((conf_folder() / "experiment").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import numpy as np
    from PIL import Image

    for part in ("train", "test"):
        for index in range(30 if part == "train" else 20):
            place = tmp_path / "images" / part / f"class{index % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), 8 * index, np.uint8)).save(place / f"{index}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_states_command_and_claims(path: Path) -> None:
    assert re.fullmatch(r"[a-z]+\d{4}_[a-z0-9_]+", path.stem)
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# mcr experiment={path.stem}")
    for claim in yaml.safe_load(path.read_text())["claims"]:
        assert set(claim) == {"source", "quantity", "relation", "value", "standard_errors"}
        assert claim["relation"] in RELATIONS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_in_its_tiny_form(path: Path, request_for, folder: Path, tmp_path: Path) -> None:
    words = [f"experiment={path.stem}", "debug=default", f"paths.root={tmp_path}"]
    if "imagefolder" in path.read_text():
        words += [f"dataset.root={folder}", "dataset.split={train: 12, validation: 6, clean: 6, test: 12}"]
    request = request_for(*words)
    assert request.swept
    for job in request.jobs:
        cfg = job.config
        context = Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")
        goals = pipeline.plan(cfg, run.title(cfg))["report"]
        states = {stage.label: state for stage, _, state in pipeline.make(goals, Store(cfg["paths"]["store"]), context)}
        assert states["report"] == "made"
