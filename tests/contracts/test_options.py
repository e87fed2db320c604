"""Contracts that enumerate conf/: a new option is tested unasked, a lost or misspelt one is noticed."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml
from PIL import Image

import mcr
from mcr.cli import conf_folder
from mcr.stages.train import FITTING
from mcr.views import description

CONF = conf_folder()
FILES = sorted(CONF.glob("*/*.yaml"))
# Options that must be there: deleting a file must be noticed. A new one need not be named here.
SHIPPED = {
    "architecture": "imported mlp preresnet110 preresnet164 preresnet26 resnet18 small_cnn small_vgg vgg16 vgg16_bn "
    "vgg19 vit_tiny wrn28_10",
    "attack": "apgd_ce apgd_t autoattack carlini_wagner deepfool fgsm fmn none pgd square",
    "backdoor": "badnets badnets_all_to_all blended none sinusoidal",
    "curve": "bezier linear polychain",
    "dataset": "cifar10 cifar100 digits fashion_mnist imagefolder imagefolder_clean mnist svhn synthetic tiny_imagenet",
    "debug": "default",
    "endpoint": "adversarial checkpoint fgsm_rs permuted_copy standard trades tuned_copy",
    "evaluation": "path quick record",
    "experiment": "zhao2020_fig4_barrier_cifar10_small zhao2020_fig4_barrier_digits",
    "injection": "fault_sneaking fault_sneaking_l0 gaussian none",
    "logger": "csv none wandb",
    "normalization": "dataset fixed",
    "objective": "adversarial adversarial_warmup cross_entropy fgsm_rs trades",
    "optimizer": "adamw sgd",
    "pair": "backdoored injected path_aware regular_regular regular_robust robust_robust",
    "repair": "finetune noise path_point prune scratch",
    "report": "default",
    "runtime": "cpu ddp gpu",
    "schedule": "cosine flat_linear_flat one_cycle step",
    "selection": "farthest middle",
    "tamper": "inject none path_aware poison tune",
}
OPTIONS = {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()}
# What only the program knows, by group: constructor arguments that no YAML holds.
GIVEN = {
    "architecture": {"num_classes", "in_channels", "image_size"},
    "normalization": {"statistics"},
    "endpoint": {"network", "objective", "optimizer", "schedule", "num_classes", "seed", "training"},
    "objective": set(),
    "tamper": {"network", "objective", "optimizer", "schedule", "num_classes", "seed"},
}
# What a YAML holds beside its constructor's arguments, by group.
BESIDE = {
    "dataset": {"augmentation", "split"},
    "endpoint": set(FITTING),
    "tamper": {"kind", *FITTING},
    "repair": {"name", "trains", "begin", "module", "optimizer", "weight_decay"},
}
HOMES = {
    "dataset": "datasets",
    "architecture": "architectures",
    "attack": "attacks",
    "backdoor": "backdoors",
    "injection": "injections",
    "selection": "selection",
    "curve": "curves",
    "schedule": "schedules",
    "objective": "objectives",
}
# Modules of a room that its options share.
SHARED = {
    "dataset": {"augment", "batches", "split", "torchvision_source"},
    "architecture": {"initial", "normalization"},
    "attack": {"authors", "ball", "evasion", "frozen", "nearest"},
    "objective": {"objective"},
    "backdoor": {"backdoor", "poisoning"},
    "injection": {"injected"},
    "selection": {"choice"},
}
ROOMS = tuple(HOMES)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text()) or {}


def name(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def targets(own: bool) -> list[Path]:
    return [p for p in FILES if str(load(p).get("_target_", "")).startswith("mcr." if own else "torch.")]


def test_no_option_was_lost() -> None:
    lost = {group: set(options.split()) - set(OPTIONS[group]) for group, options in SHIPPED.items()}
    assert not any(lost.values()), lost


@pytest.mark.parametrize("group", ROOMS)
def test_every_module_of_a_room_has_a_yaml(group: str) -> None:
    """A public class that no option names is out of a user's reach."""
    used = {
        str(load(path)["_target_"]).split(".")[-2]
        for path in FILES
        if path.parent.name == group and path in targets(True)
    }
    folder = Path(mcr.__file__).parent / HOMES[group]
    assert {path.stem for path in folder.glob("*.py")} - used == SHARED.get(group, set()) | {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_option_says_what_it_is(path: Path) -> None:
    assert len(description(path)) > 15


@pytest.mark.parametrize("path", targets(own=True), ids=name)
def test_yaml_and_constructor_agree_both_ways(path: Path) -> None:
    """YAML is the only source of defaults: every argument is in the YAML, every key is an argument."""
    config, group = load(path), path.parent.name
    module, _, attribute = config["_target_"].rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    parameters = inspect.signature(target).parameters
    assert [p.name for p in parameters.values() if p.default is not inspect.Parameter.empty] == []
    keys = {key for key in config if not key.startswith("_") and key != "defaults"} - BESIDE.get(group, set())
    assert keys == set(parameters) - GIVEN.get(group, set())


@pytest.mark.parametrize("path", targets(own=False), ids=name)
def test_a_torch_option_has_only_arguments_of_its_target(path: Path) -> None:
    config = load(path)
    module, _, attribute = config["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    assert {key for key in config if not key.startswith("_")} <= set(parameters)


@pytest.mark.parametrize("path", [p for p in targets(own=True) if p.parent.name in ROOMS], ids=name)
def test_a_yaml_is_named_after_its_module(path: Path) -> None:
    module = load(path)["_target_"].split(".")[-2]
    assert path.stem.startswith(module)


@pytest.mark.parametrize("group", ["evaluation", "runtime", "report"])
def test_options_of_a_plain_group_have_the_same_keys(group: str) -> None:
    keys = {frozenset(load(path)) for path in (CONF / group).glob("*.yaml")}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name not in ("pair", "experiment", "debug", "architecture")], ids=name
)
def test_every_option_composes(path: Path, config, tmp_path: Path) -> None:
    for part in ("train/images", "test/images"):
        (tmp_path / part).mkdir(parents=True)
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(b"w")
    group, option = path.parent.name, path.stem
    place = PLACES.get(group, group)
    words = [f"{place}={option}"]
    words += [f"dataset.root={tmp_path}"] if "root" in load(path) and "???" in str(load(path)["root"]) else []
    words += [f"dataset.root={tmp_path}"] if option == "tiny_imagenet" else []
    words += [f"endpoints.end.path={checkpoint}"] if option == "checkpoint" else []
    cfg = config(*words, tiny=False)
    chosen = cfg[f"{group}s"]["end"] if group in PLACES else cfg[group]
    assert set(load(path)) - {"defaults"} <= set(chosen)


PLACES = {"endpoint": "endpoint@endpoints.end", "tamper": "tamper@tampers.end"}
SMALL_STEP = ("dataset.images=120", "dataset.split.train=2", "training.batch_size=2", "dataset.split.validation=8")


@pytest.mark.parametrize("option", [o for o in OPTIONS["architecture"] if o != "imported"])
def test_every_architecture_takes_one_step_and_uses_all_layers(option: str, config, make) -> None:
    import torch

    from mcr.stages import artifacts, model

    words = ["dataset.image_size=32", "dataset.channels=3", f"architecture={option}", "~architecture.hidden"]
    words = words[:3] if option in ("mlp", "small_cnn") else words
    words = [*words, *SMALL_STEP, "normalization=fixed"]
    tiny = [w for w in _tiny() if not w.startswith("architecture")]
    made = make(*tiny, *[w for w in words if w != "~architecture.hidden"], goal="train", tiny=False)
    folder, state = made["train start"]
    assert state == "made"
    cfg = config(*tiny, *[w for w in words if w != "~architecture.hidden"], tiny=False)
    network = model.make(cfg, artifacts.read_spec(made["data"][0]), "0")
    network.network.load_state_dict({k.removeprefix("network."): v for k, v in artifacts.read_network(folder).items()})
    network.eval()(torch.rand(2, 3, 32, 32)).square().sum().backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert unused == []


def _tiny() -> tuple[str, ...]:
    from tests.conftest import TINY

    return TINY


TINY_INJECTION = (
    *("injection.attacked=1", "injection.kept=1", "injection.iterations=200", "injection.learning_rate=0.1"),
    *("training.epochs=40", "dataset.split.validation=16"),
)
# What an option needs beside it in the smallest run.
BESIDE_OPTION = {
    ("attack", "pgd"): ("attack=pgd", "endpoint@endpoints.end=adversarial"),
    ("attack", "fgsm"): ("attack=fgsm", "endpoint@endpoints.end=adversarial"),
    ("attack", "none"): ("attack=none",),
    # In a ball this wide nothing stands for long, so that the slow parts have little to do.
    **{("attack", name): ("attack.eps=1.0",) for name in ("apgd_t", "autoattack", "deepfool")},
    ("attack", "apgd_ce"): ("evaluation.attack.steps=5",),
    ("attack", "square"): ("evaluation.attack.queries=10",),
    ("attack", "fmn"): ("evaluation.attack.steps=5",),
    ("attack", "carlini_wagner"): ("attack.norm=l2", "evaluation.attack.steps=5", "evaluation.attack.searches=2"),
    ("backdoor", "none"): ("pair=regular_regular",),
    ("pair", "injected"): TINY_INJECTION,
    ("tamper", "inject"): ("injection=fault_sneaking", *TINY_INJECTION),
    ("tamper", "poison"): ("backdoor=badnets",),
    ("tamper", "tune"): ("backdoor=badnets",),
    ("injection", "none"): ("pair=regular_regular",),
    ("injection", "fault_sneaking"): TINY_INJECTION,
    ("injection", "fault_sneaking_l0"): TINY_INJECTION,
}
ONE_STEP = {
    "backdoor": ("backdoor={}", "pair=backdoored"),
    "injection": ("injection={}", "pair=injected"),
    "tamper": ("tamper@tampers.end={}",),
    "attack": ("+attack@evaluation.attack={}",),
    "curve": ("curve={}",),
    "endpoint": ("endpoint@endpoints.end={}",),
    "evaluation": ("evaluation={}",),
    "normalization": ("normalization={}",),
    "objective": ("objective={}",),
    "optimizer": ("optimizer={}",),
    "pair": ("pair={}",),
    "report": ("report={}",),
    "schedule": ("schedule={}",),
    "logger": ("logger={}",),
}
RUNS = [
    (group, option) for group in ONE_STEP for option in OPTIONS[group] if option not in ("checkpoint", "path_aware")
]
RUNS += [("pair", "path_aware")]


@pytest.mark.parametrize(("group", "option"), RUNS)
def test_every_option_runs_from_training_to_report(group: str, option: str, make) -> None:
    words = [word.format(option) for word in ONE_STEP[group]]
    words += BESIDE_OPTION.get((group, option), ())
    words += ["dataset.images=64", "dataset.split.test=16", "dataset.split.train=16"]
    made = make(*words)
    folder, state = made["report"]
    assert state == "made"
    assert {"figure.png", "figure.svg", "path.csv", "report.md", "summary.json"} <= {p.name for p in folder.iterdir()}


@pytest.mark.parametrize("option", ["digits", "synthetic", "imagefolder"])
def test_every_source_that_needs_no_download_runs(option: str, make, tmp_path: Path) -> None:
    import numpy as np

    for index in range(40):
        place = tmp_path / "images" / f"class{index % 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 6 * index, np.uint8)).save(place / f"{index}.png")
    words = [f"dataset={option}", "debug=default", "architecture=mlp", "architecture.hidden=[8]", "training.epochs=1"]
    words += [f"dataset.root={tmp_path / 'images'}"] if option == "imagefolder" else []
    words += ["dataset.split={train: 12, validation: 8, clean: 8, test: 8}"]
    assert make(*words, tiny=False)["report"][1] == "made"


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in ("repair", "selection") for o in OPTIONS[g]])
def test_every_option_of_a_repair_runs_to_its_card(group: str, option: str, make) -> None:
    made = make(
        f"{group}={option}", "pair=backdoored", "architecture=small_cnn", "architecture.hidden=8", goal="repair"
    )
    folder, state = made["card"]
    assert state == "made"
    assert {"card.md", "card.json", "along.csv", "figure.png", "summary.json"} <= {p.name for p in folder.iterdir()}
