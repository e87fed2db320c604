"""Classes of a user's own, outside the package: listed, built, hashed by their source; anything else is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import mcr
from mcr.app import run
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.stages.context import Context
from mcr.store.store import Store
from tests.processes import mcr as command
from tests.reading import column

SOURCE = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from mcr.attacks.evasion import Evasion
from mcr.curves.bezier import Bezier
from mcr.metric import Metric
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.types import LabelledImages, RawDataset
from mcr.weightspace.transform import Transform


@dataclass(frozen=True)
class Brighter(Evasion):
    eps: float
    norm: str

    def candidates(self, classifier, images, labels, generator):
        yield (images + self.eps).clamp(0, 1)


class Lifted(Bezier):
    def coefficients(self, u):
        return super().coefficients(u ** 2)


@dataclass(frozen=True)
class Sure:
    temperature: float
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("mean", "share", "neither", "confidence"),)
    draws: ClassVar[str] = "nothing"

    def __call__(self, network, data, draw):
        network.eval()
        with torch.no_grad():
            return {"mean": torch.cat([(network(images) / self.temperature).softmax(1).amax(1) for images, _ in data])}


class Halved(Transform):
    def apply_(self, theta, layout):
        theta.mul_(0.5)

    def pull_(self, gradient, layout):
        gradient.mul_(0.5)


class Doubled(CrossEntropy):
    def __call__(self, network, images, labels, generator):
        losses, logits = super().__call__(network, images, labels, generator)
        return 2 * losses, logits


@dataclass(frozen=True)
class Stripes:
    count: int

    def load(self):
        labels = torch.arange(self.count) % 2
        images = torch.zeros(self.count, 1, 8, 8, dtype=torch.uint8)
        images[labels == 1, :, ::2] = 255
        images[labels == 0, :, :, ::2] = 200
        return RawDataset({"all": LabelledImages(images, labels)}, ("down", "across"))
"""
SPLIT = {"seed": 0, "train": "all", "validation": 20, "clean": 20, "test": 40}
ASKED = {"data": "test", "images": "all", "at": "${evaluation.grid}", "along": "all"}
OPTIONS: dict[str, dict[str, Any]] = {
    "attack/brighter": {"_target_": "my_things.Brighter", "eps": 0.25, "norm": "linf"},
    "curve/lifted": {"_target_": "my_things.Lifted", "points": 3, "joins": 2, "fits": "inner"},
    "probe/sure": {"_target_": "my_things.Sure", "temperature": 2.0, **ASKED},
    "transform/halved": {"_target_": "my_things.Halved"},
    "objective/doubled": {"_target_": "my_things.Doubled"},
    "dataset/stripes": {
        "_target_": "my_things.Stripes",
        "count": 120,
        "augmentation": {"padding": 0, "flip": 0.0},
        "split": SPLIT,
    },
}
CHOSEN = ("dataset=stripes", "attack=brighter", "curve=lifted", "transform=halved", "objective=doubled")
WORDS = ("--config-dir", "mine", *CHOSEN, "+probe@probes.sure=sure")
SMALL = ("architecture=mlp", "architecture.hidden=[8]", "debug=default", "logger=none", "runtime.threads=1")
# Those of the user's own classes.
MOVED = {"data", "connect path", "measure robust", "measure sure"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of a user's own and the YAML files of its classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_things", raising=False)
    (tmp_path / "my_things.py").write_text(SOURCE)
    for name, option in OPTIONS.items():
        path = tmp_path / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name} of my own.\n{yaml.safe_dump(option)}")
    return tmp_path


@pytest.fixture
def module(workplace: Path) -> ModuleType:
    import my_things

    return my_things


def planned(cfg: dict[str, Any]) -> dict[str, str]:
    """Label to key."""
    return {stage.label: stage.key for stage in pipeline.ordered(pipeline.plan(cfg, run.title(cfg))["report"])}


def test_each_works_from_the_command_line(request_for, workplace: Path, module) -> None:
    words = ("plugins=[my_things]", "training.epochs=5", f"paths.root={workplace}")
    cfg = request_for(*WORDS, *SMALL, *words).jobs[0].config
    store, goals = Store(cfg["paths"]["store"]), pipeline.plan(cfg, run.title(cfg))["report"]
    stages = pipeline.make(goals, store, Context(cfg["runtime"], cfg["logger"], "tests", workplace))
    made = {stage.label: (folder, "") for stage, folder, _ in stages}
    assert [0.5 <= value <= 1 for value in column(made, "sure_mean")] == [True] * 3
    # The curve is asked where its own coefficients say, the transform halves the weights at the ends too.
    arc = column(made, "arc_length")
    assert arc[1] < 0.4 * arc[2]
    assert column(made, "distance_to_start")[0] > 0
    assert column(made, "robust_loss") != column(made, "test_loss")


def test_the_command_finds_them_and_lists_them(workplace: Path) -> None:
    shown = command("show", *WORDS, *SMALL, "plugins=[my_things]", folder=workplace)
    assert shown.returncode == 0, shown.stderr
    assert "stripes, mlp: regular to regular, lifted" in shown.stdout
    listed = command("list", "curve", "--config-dir", "mine", folder=workplace)
    assert "curve/lifted of my own." in listed.stdout
    assert "bezier_surface" in listed.stdout
    refused = command("list", "curve", "--config-dir", "yours", folder=workplace)
    assert (refused.returncode, refused.stderr) == (2, "mcr: --config-dir yours: there is no such folder\n")


def test_an_edited_class_gives_new_keys_where_it_is_used(request_for, workplace: Path) -> None:
    def keys() -> dict[str, str]:
        return planned(request_for(*WORDS, *SMALL, "plugins=[my_things]").jobs[0].config)

    before, again = keys(), keys()
    assert before == again
    (workplace / "my_things.py").write_text(SOURCE + "\n# changed\n")
    after = keys()
    assert {label for label in MOVED if before[label] == after[label]} == set()
    unused = ("dataset=synthetic", "plugins=[my_things]")
    listed, plain = (planned(request_for(*unused[:count], *SMALL).jobs[0].config) for count in (2, 1))
    assert listed == plain


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_not_listed_is_refused(name: str, workplace: Path, request_for) -> None:
    group, _, option = name.partition("/")
    word = f"+probe@probes.sure={option}" if group == "probe" else f"{name.replace('/', '=')}"
    request = request_for("--config-dir", "mine", word, *SMALL)
    with pytest.raises(InputError, match=r"my_things\.\w+ is not allowed here: .* plugins=\[my_things\]"):
        run.check(request)


def test_a_listed_module_that_is_not_there_is_refused(request_for, workplace: Path) -> None:
    request = request_for(*WORDS, *SMALL, "plugins=[my_thing]")
    with pytest.raises(InputError, match=r"there is no module my_thing;"):
        run.check(request)


def test_each_works_from_python(module) -> None:
    raw = module.Stripes(120).load()
    data = raw.parts["all"]
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)))
        mcr.fit(networks[-1], data, objective=module.Doubled(), epochs=2, seed=seed)
    space = mcr.Subspace(networks, module.Lifted(3), transforms=[module.Halved()])
    mcr.fit(space, data, objective=module.Doubled(), epochs=2)
    attack = mcr.option("probe", "robust_risk", attack=module.Brighter(0.25, "linf"))
    found = mcr.measure(space, data, {"sure": module.Sure(2.0), "robust": attack}, at=3)
    assert len(found.table.column("sure_mean")) == 3
    assert torch.equal(space.theta(0.0), 0.5 * space.layout.pack(networks[0].state_dict()))
    assert "robust loss" in str(found)


NETWORK = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""


def test_an_edited_network_of_one_s_own_gives_new_keys_wherever_it_is_used(request_for, workplace: Path) -> None:
    (workplace / "my_own_net.py").write_text(NETWORK)
    words = ("dataset=synthetic", "architecture._target_=my_own_net.Net", "+architecture.width=5", *SMALL[2:])
    before = planned(request_for(*words).jobs[0].config)
    assert planned(request_for(*words).jobs[0].config) == before
    (workplace / "my_own_net.py").write_text(NETWORK.replace("ReLU", "Tanh"))
    after = planned(request_for(*words).jobs[0].config)
    assert {label for label in before if before[label] == after[label]} == {"data", "split"}
