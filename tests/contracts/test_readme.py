"""Every command of the README is run: as written where it fits a test, else up to its plan."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mcr.app import cli, cost, run, shorthands
from mcr.plans import pipeline
from mcr.stages import checks, settings
from mcr.stages.context import Context
from mcr.store.store import Store
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.S)
LINES = [line.split(" #")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("mcr")]
# Hydra's own printing, run as processes in test_cli.py.
PRINTING = {"mcr --help", "mcr --cfg job", "mcr --info defaults-tree", "mcr list"}
# Views that take words of their own; those with these words are run in test_cost.py and test_export.py.
VIEWS = {line for line in COMMANDS if {*line.split()[:2]} & {*cli.PLAIN} or cost.COST in line} - PRINTING
ELSEWHERE = (cost.COST, " export ")
# Too large for a test to train; their networks take a step in test_options.py.
PLANNED = ("dataset=cifar10", "submitit_slurm", "logger.mode=online", "runtime=gpu", "runtime=ddp")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request, shared: Path) -> Path:
    """A folder with the README's own network, its weights twice, and photos of two sizes of cats."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCR_ROOT", str(shared))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)  # of another test
    source = next(text for kind, text in BLOCKS if kind == "python" and "class MyNet" in text)
    (tmp_path / "my_nets.py").write_text(source)
    monkeypatch.delitem(sys.modules, "my_probes", raising=False)
    probe = next(text for kind, text in BLOCKS if kind == "python" and "class Confidence" in text)
    (tmp_path / "my_probes.py").write_text(probe)
    (tmp_path / "mine" / "probe").mkdir(parents=True)
    option = next(text for kind, text in BLOCKS if kind == "yaml" and "Confidence" in text)
    (tmp_path / "mine" / "probe" / "confidence.yaml").write_text(option.replace("mcr.probes.confidence", "my_probes"))
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


@pytest.fixture(autouse=True)
def _searches(request: pytest.FixtureRequest) -> None:
    """Commands that search need the extra that does."""
    chosen = getattr(request.node, "callspec", None)
    if chosen is not None and "hparams_search" in str(chosen.params.get("command")):
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")


def words(command: str) -> tuple[str, list[str]]:
    """The verb and the overrides of a command."""
    _, verb, files, rest = cli._split_verbs(shlex.split(command)[1:])
    if verb == "repair":
        return verb, [*shorthands.checkpoints(files), *rest]
    rest = shorthands.merge(rest, False) if verb == "merge" else rest
    return "report" if verb == "connect" and files else verb, shorthands.joined(verb, files, rest)


def shrink(command: str) -> list[str]:
    """Overrides that make a command tiny without touching what it shows."""
    small = ["debug=default", "logger=none", "runtime.threads=1"]
    small += ["logger=wandb"] if "logger.artifacts" in command else []  # debug=default has none
    if "photos" in command:
        small += ["dataset.split.train=24", "dataset.split.validation=6", "dataset.split.clean=6"]
    if "image_size=64" in command:
        small += ["dataset.images=120"]
    if "dataset.root=clean" in command:
        small += ["dataset.split={train: 0, validation: 0, clean: all, test: 0}"]
    # Last wins: the shares and numbers of the command need more images than a tiny run has.
    small += ["poisoning.ratio=0.5"] if "poisoning.ratio" in command else []
    small += (
        ["repair.budget.images=16,12" if "," in command else "repair.budget.images=16"]
        if "repair.budget.images" in command
        else []
    )
    if "ends=injected" in command:
        # The errors of a barely trained network.
        small += ["injection.attacked=1", "injection.kept=1", "injection.learning_rate=0.1", "training.epochs=40"]
        small += ["dataset.split.validation=60"]
    if "snapshot" in command:
        small += ["training.epochs=10"]
    kept = ("debug", "logger=wandb", "runtime", "poisoning", "repair", "training", "injection")
    return [word for word in small if word.split("=")[0] not in command or word.startswith(kept)]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 20
    assert "make demo" in LINES
    assert "make test" in LINES
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("demo", "reproduce-small", "test"))


def test_every_experiment_on_digits_but_the_long_one_is_made_again_by_one_command() -> None:
    """``repairs_digits`` takes hours; the demo makes one of them."""
    names = {path.stem for path in (ROOT / "conf" / "experiment").glob("*_digits.yaml")} - {"repairs_digits"}
    made = re.findall(r"experiment=(\w+)", (ROOT / "Makefile").read_text())
    assert sorted(made) == sorted(names)


RUN = [command for command in dict.fromkeys(COMMANDS) if command not in PRINTING | VIEWS]


@pytest.mark.parametrize("command", RUN)
def test_a_readme_command_asks_for_nothing_that_is_refused(command: str, request_for, workplace: Path) -> None:
    verb, given = words(command)
    for job in request_for(*given, verb=verb).jobs:
        stages = pipeline.ordered(pipeline.plan(job.config, run.title(job.config))[verb])
        assert stages
        settings.check(job.config)
        for stage in stages:
            checks.check(stage)
        if "imagefolder" not in command:  # a reader's own has more images
            checks.check_with_data(stages, Store(job.config["paths"]["store"]))


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in RUN if not any(mark in command for mark in PLANNED)])
def test_a_readme_command_runs(command: str, request_for, workplace: Path) -> None:
    verb, given = words(command)
    tiny = request_for(*given, *shrink(command), verb=verb)
    assert len(tiny.jobs) == len(request_for(*given, verb=verb).jobs)
    for job in tiny.jobs[:3]:
        cfg = job.config
        context = Context(cfg["runtime"], cfg["logger"], "tests", workplace / "run")
        goals = pipeline.plan(cfg, run.title(cfg))[verb]
        states = {stage.label: state for stage, _, state in pipeline.make(goals, Store(cfg["paths"]["store"]), context)}
        assert goals[0].label in states


@pytest.mark.parametrize("command", sorted(c for c in VIEWS if not any(word in c for word in ELSEWHERE)))
def test_a_view_of_the_readme_is_printed(command: str, capsys) -> None:
    assert cli.dispatch(shlex.split(command)[1:]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in dict.fromkeys(COMMANDS) if "ends=injected" in c])
def test_errors_are_injected_by_a_command_as_it_is_written(command: str, request_for, tmp_path: Path) -> None:
    """What an injection asks of the networks and of the number of images shows at full size only."""
    verb, given = words(command)
    cfg = request_for(*given, "logger=none", "runtime.threads=1", f"paths.root={tmp_path}", verb=verb).jobs[0].config
    context = Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")
    made = list(pipeline.make(pipeline.plan(cfg)["train"], Store(cfg["paths"]["store"]), context))
    assert [stage.label for stage, _, _ in made][-2:] == ["inject start", "inject end"]


def test_the_probe_of_the_readme_is_one_file_and_one_yaml(
    request_for, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next(text for kind, text in BLOCKS if kind == "python" and "class Confidence" in text)
    assert len(source.splitlines()) <= 25
    module = ModuleType("mcr.probes.confidence")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("mcr.probes.confidence", module, raising=False)
    exec(source, module.__dict__)
    (tmp_path / "conf" / "probe").mkdir(parents=True)
    (tmp_path / "conf" / "probe" / "confidence.yaml").write_text(next(text for kind, text in BLOCKS if kind == "yaml"))
    asked = ("--config-dir", str(tmp_path / "conf"), "+probe@probes.confidence=confidence")
    cfg = request_for(*asked, *TINY, f"paths.root={tmp_path}").jobs[0].config
    store, goals = Store(cfg["paths"]["store"]), pipeline.plan(cfg, run.title(cfg))["report"]
    list(pipeline.make(goals, store, Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")))
    with (store.folder(goals[0]) / "path.csv").open(newline="") as stream:
        found = [float(row["confidence_mean"]) for row in csv.DictReader(stream)]
    assert len(found) == 3
    assert all(0.1 <= value <= 1 for value in found)


DOCUMENTS = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "multirun" / "README.md"]
SAID = [
    line.split(" #")[0].strip()
    for document in DOCUMENTS
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", document.read_text(), flags=re.S)
    for line in text.splitlines()
    if kind == "bash" and line.startswith("mcr")
]


@pytest.mark.slow
@pytest.mark.parametrize("command", list(dict.fromkeys(SAID)))
def test_a_command_of_the_documents_is_planned(command: str, request_for, workplace: Path) -> None:
    for part in ("train", "test"):
        (workplace / "photos" / part).mkdir()
        for name in ("cats", "dogs"):
            shutil.copytree(workplace / "clean" / name, workplace / "photos" / part / name)
    for name in ("cats", "dogs", "birds"):
        shutil.rmtree(workplace / "photos" / name)
    verb, given = words(command.replace("dataset.root=DIR", "dataset.root=photos"))
    for job in request_for(*given, verb=verb).jobs:
        for stage in pipeline.ordered(pipeline.plan(job.config, run.title(job.config))[verb]):
            checks.check(stage)


@pytest.mark.parametrize("name", ["skypilot", "dstack"])
def test_what_a_rented_machine_is_to_run_is_planned(name: str, request_for, tmp_path: Path, monkeypatch) -> None:
    """Not the machine: that needs an account."""
    monkeypatch.setenv("MCR_ROOT", str(tmp_path))
    text = (ROOT / "examples" / f"{name}.yaml").read_text()
    given = yaml.safe_load(text)
    assert "Not tried" in text.splitlines()[0]
    lines = given["run"].splitlines() if name == "skypilot" else given["commands"]
    (command,) = [line for line in lines if line.startswith("mcr ")]
    verb, words_of_it = words(command)
    jobs = request_for(*words_of_it, verb=verb).jobs
    assert len(jobs) == 6
    for stage in pipeline.ordered(pipeline.plan(jobs[-1].config, run.title(jobs[-1].config))[verb]):
        checks.check(stage)
    mounted = str(given.get("file_mounts") or given.get("volumes"))
    assert "/store" in mounted
    assert "MCR_ROOT" in str(given.get("envs") or given.get("env"))


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCUMENTS]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
