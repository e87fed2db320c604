"""Every command of the README is run: as written where it fits a test, else up to its plan."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcr import cli, pipeline, run, shorthands
from mcr.stages.context import Context
from mcr.store import Store

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.S)
LINES = [line.split(" #")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("mcr")]
# Hydra's own printing, run as processes in test_cli.py.
PRINTING = {"mcr --help", "mcr --cfg job", "mcr --info defaults-tree", "mcr list"}
# Too large for a test to train; their networks take a step in test_options.py.
PLANNED = ("dataset=cifar10", "logger.mode=online", "runtime=gpu")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder with the README's own network, its weights twice, and photos of two sizes of cats."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = next(text for kind, text in BLOCKS if kind == "python" and "class MyNet" in text)
    (tmp_path / "my_nets.py").write_text(source)
    namespace: dict = {}
    exec(source, namespace)
    # The repaired networks know three classes of coloured photos, those to be joined ten digits.
    repaired = "dataset.root=clean" in str(request.node.callspec.params.get("command"))
    network = namespace["MyNet"](3, 3) if repaired else namespace["MyNet"](10, 1)
    for name in ("a.pt", "b.pt"):
        torch.save(network.state_dict(), name)
    from mcr.weightspace import files

    files.save(network.state_dict(), Path("b.safetensors"))
    for index in range(60):
        for folder in ("photos", "clean"):
            place = tmp_path / folder / ("cats", "dogs", "birds")[index % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((24, 24, 3), 4 * index, np.uint8)).save(place / f"{index}.png")
    return tmp_path


def words(command: str) -> tuple[str, list[str]]:
    """The verb and the overrides of a command."""
    _, verb, files, rest = cli._split_verbs(shlex.split(command)[1:])
    return verb, [*shorthands.checkpoints(files), *rest]


def shrink(command: str) -> list[str]:
    """Overrides that make a command tiny without touching what it shows."""
    small = ["debug=default", "logger=none", "runtime.threads=1"]
    if "photos" in command:
        small += ["dataset.split.train=24", "dataset.split.validation=6", "dataset.split.clean=6"]
    if "image_size=64" in command:
        small += ["dataset.images=120"]
    if "dataset.root=clean" in command:
        small += ["dataset.split={train: 0, validation: 0, clean: all, test: 0}"]
    # Last wins: the shares and numbers of the command need more images than a tiny run has.
    small += ["poisoning.ratio=0.5"] if "poisoning.ratio" in command else []
    small += ["defense.images=16,12" if "," in command else "defense.images=16"] if "defense.images" in command else []
    if "snapshot" in command:
        small += ["training.epochs=10"]
    kept = ("debug", "runtime", "poisoning", "defense", "training")
    return [word for word in small if word.split("=")[0] not in command or word.startswith(kept)]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 20
    assert "make demo" in LINES
    assert "make test" in LINES
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("demo", "reproduce-small", "test"))


@pytest.mark.parametrize("command", [c for c in dict.fromkeys(COMMANDS) if c not in PRINTING])
def test_a_readme_command_runs(command: str, request_for, workplace: Path) -> None:
    verb, given = words(command)
    exact = request_for(*given, verb=verb)
    for job in exact.jobs:
        assert pipeline.plan(job.config)[verb]
    if any(mark in command for mark in PLANNED):
        return
    tiny = request_for(*given, *shrink(command), verb=verb)
    assert len(tiny.jobs) == len(exact.jobs)
    for job in tiny.jobs[:3]:
        cfg = job.config
        context = Context(cfg["runtime"], cfg["logger"], "tests", workplace / "run")
        goals = pipeline.plan(cfg, run.title(cfg))[verb]
        states = {stage.label: state for stage, _, state in pipeline.make(goals, Store(cfg["paths"]["store"]), context)}
        assert goals[0].label in states


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "multirun" / "README.md"]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
