"""Shared by the tests: a configuration in a few words, and a run of it in this process."""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import defaults_list
from hypothesis import settings
from matplotlib.figure import Figure
from omegaconf import OmegaConf

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.pop("MCR_ROOT", None)
os.environ.pop("MCR_DATA", None)

from mcr.app import composition, overrides, run, shorthands
from mcr.plans import pipeline
from mcr.reports import figures
from mcr.stages.context import Context
from mcr.store import manifest
from mcr.store.store import Store

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("mcr", deadline=None)
settings.load_profile("mcr")

Made = dict[str, tuple[Path, str]]
# Small enough for a second: generated 8x8 images, one epoch, three points, nothing asked of several networks at once.
TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.channels=1",
    "dataset.images=160",
    "dataset.split.test=32",
    "architecture=mlp",
    "architecture.hidden=[16]",
    "debug=default",
    "evaluation.group_images=0",
    "soundness.learned=0",
    "runtime.threads=1",
)
TOGETHER = "evaluation.group_images=4"  # asks these questions too


@pytest.fixture(scope="session", autouse=True)
def _seldom_collected() -> Iterator[None]:
    """What was imported and collected stays: looking through it for garbage takes a tenth of the time of all tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _resolvers() -> None:
    overrides.register_resolvers()


@pytest.fixture(scope="session", autouse=True)
def _compositions() -> Iterator[None]:
    """What is chosen in the package's own configuration is composed once a session, not once a test."""
    known: dict[tuple[str, ...], composition.Chosen] = {}
    trees: dict[tuple[str, ...], Any] = {}
    read: dict[str, Any] = {}

    class Kept(composition.Composer):
        def __init__(self, conf: Path, args: argparse.Namespace) -> None:
            super().__init__(conf, args)
            self.own = args.config_dir is None and conf == composition.conf_folder()
            if self.own:
                self.known, self.trees = known, trees

        def __enter__(self) -> composition.Composer:
            super().__enter__()
            if self.own:
                self.loader.repository.read = read
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overrides, "Composer", Kept)
        # For interpolations within defaults lists, of which there are none: a quarter of a composition.
        patch.setattr(defaults_list, "_create_interpolation_map", lambda *_: OmegaConf.create())
        yield


@pytest.fixture(autouse=True)
def _empty_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" in request.keywords:
        return

    def save(figure: Figure, folder: Path, name: str, formats: list[str], dpi: int) -> list[Path]:
        paths = [folder / f"{name}.{kind}" for kind in formats]
        for path in paths:
            Figure(figsize=(1, 1)).savefig(path)
        return paths

    monkeypatch.setattr(figures, "save", save)


@pytest.fixture(scope="session")
def request_for() -> Callable[..., overrides.Request]:
    """Compose a command line as the program does."""
    overrides.register_resolvers()

    def compose(*words: str, verb: str = "report") -> overrides.Request:
        args = overrides.parse_arguments(list(words))
        args.overrides = shorthands.imported_architecture(args.overrides)
        return overrides.compose_jobs(composition.conf_folder(), args, verb)

    return compose


@pytest.fixture
def config(request_for: Callable[..., overrides.Request], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The resolved configuration of one tiny job whose store lies in the test's own folder."""

    def compose(*words: str, tiny: bool = True) -> dict[str, Any]:
        return request_for(*(TINY if tiny else ()), f"paths.root={tmp_path}", *words).jobs[0].config

    return compose


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root for all tests of the session, in all its processes, that need not see a stage made anew."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    return root


def carried_out(cfg: dict[str, Any], goal: str, folder: Path) -> Made:
    """Make what a goal needs, with the run's own files in a folder: stage label to folder and "hit" or "made"."""
    context = Context(cfg["runtime"], cfg["logger"], "tests", folder / "run")
    stages = pipeline.make(pipeline.plan(cfg, run.title(cfg))[goal], Store(cfg["paths"]["store"]), context)
    return {stage.label: (place, state) for stage, place, state in stages}


def sealed(folder: Path) -> None:
    """Make the record of a stage say that its files are as they are: for tests that change one."""
    facts = json.loads((folder / manifest.RECORD).read_text())
    manifest.write(folder, {name: value for name, value in facts.items() if name != "files"})


@pytest.fixture
def make(config: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Made]:
    """Run one tiny job up to a goal; stage label to folder and "hit" or "made"."""

    def go(*words: str, goal: str = "report", tiny: bool = True) -> Made:
        return carried_out(config(*words, tiny=tiny) | {"verb": goal}, goal, tmp_path)

    return go
