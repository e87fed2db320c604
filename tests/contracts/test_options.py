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
from mcr.views import description

CONF = conf_folder()
FILES = sorted(CONF.glob("*/*.yaml"))
# Options that must be there: deleting a file must be noticed. A new one need not be named here.
SHIPPED = {
    "architecture": "imported mlp preresnet110 preresnet164 preresnet26 resnet18 small_cnn small_vgg vgg16 vgg16_bn "
    "vgg19 vit_tiny wrn28_10",
    "attack": "apgd_ce apgd_t autoattack carlini_wagner deepfool fgsm fmn none pgd square",
    "backdoor": "badnets badnets_all_to_all blended none sinusoidal",
    "curve": "bezier bezier_surface bezier_surface_4x4 bezier_triangle bilinear linear polychain simplex",
    "dataset": "cifar10 cifar100 digits fashion_mnist imagefolder imagefolder_clean mnist svhn synthetic tiny_imagenet",
    "debug": "default",
    "edit": "inject path_aware permute poison_tune prune tune",
    "endpoint": "adversarial checkpoint copy fgsm_rs permuted_copy poisoned snapshot standard trades tuned_copy",
    "ends": "backdoored four_regular four_robust injected path_aware regular_regular regular_robust robust_robust "
    "three_regular",
    "evaluation": "path quick record",
    "experiment": "zhao2020_fig4_barrier_cifar10_small zhao2020_fig4_barrier_digits",
    "injection": "fault_sneaking fault_sneaking_l0 gaussian none",
    "logger": "csv none wandb",
    "normalization": "dataset fixed",
    "objective": "adversarial adversarial_warmup cross_entropy fgsm_rs trades",
    "optimizer": "adamw sgd",
    "probe": "accuracy alignment attack_success calibration ensemble gradient_similarity input_curvature risk "
    "risk_fitted robust_risk stronger_attacks success transfer triggered_similarity",
    "reference": "bilinear regular simplex straight",
    "repair": "finetune noise path_point prune scratch",
    "report": "default",
    "runtime": "cpu ddp gpu",
    "schedule": "cosine flat_linear_flat one_cycle step",
    "selection": "farthest middle",
    "transform": "magnitude none",
}
OPTIONS = {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()}
# What only the program knows, by group: constructor arguments that no YAML holds.
GIVEN = {
    "architecture": {"num_classes", "in_channels", "image_size"},
    "normalization": {"statistics"},
}
# What a YAML holds beside its constructor's arguments, by group.
BESIDE = {
    "curve": {"joins", "fits"},
    "dataset": {"augmentation", "split"},
    "edit": {"kind", "label", "data", "joint", "numbers", "use"},
    "injection": {"numbers"},
    "probe": {"data", "images", "at", "along"},
    "repair": {"name", "trains", "begin", "module", "optimizer", "weight_decay", "ema_decay"},
}
HOMES = {
    "dataset": "datasets",
    "architecture": "architectures",
    "attack": "attacks",
    "backdoor": "backdoors",
    "edit": "edits",
    "injection": "injections",
    "probe": "probes",
    "selection": "selection",
    "curve": "curves",
    "schedule": "schedules",
    "objective": "objectives",
    "transform": "transforms",
}
# Modules of a room that its options share.
SHARED = {
    "dataset": {"augment", "batches", "folder", "split", "torchvision_source"},
    "architecture": {"initial", "normalization"},
    "attack": {"authors", "ball", "evasion", "frozen", "nearest"},
    "objective": {"objective"},
    "backdoor": {"backdoor", "poisoning"},
    "curve": {"barycentric", "bernstein", "box", "curve"},
    "edit": {"edit"},
    "injection": {"injected"},
    "probe": {"divergence", "input_gradient", "input_hessian", "piecewise", "probe"},
    "schedule": {"schedule"},
    "selection": {"choice"},
}
ROOMS = tuple(HOMES)
# Where an option stands that is no group of the root.
PLACES = {
    "edit": "+edit@endpoints.end.edits.one",
    "endpoint": "endpoint@endpoints.end",
    "probe": "+probe@probes.one",
    "reference": "reference@references.straight",
}


def load(path: Path) -> dict:
    """A YAML file with what it inherits from its own group."""
    own = yaml.safe_load(path.read_text()) or {}
    parents = [entry for entry in own.get("defaults", []) if isinstance(entry, str) and not entry.startswith("_")]
    found: dict = {}
    for parent in parents:
        found |= load(path.with_name(f"{parent}.yaml"))
    return found | {key: value for key, value in own.items() if key != "defaults"}


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


@pytest.mark.parametrize(
    "option", [o for o in OPTIONS["endpoint"] if "module" in load(CONF / "endpoint" / f"{o}.yaml")]
)
def test_an_endpoint_names_every_argument_of_its_module_that_is_configuration(option: str) -> None:
    config = load(CONF / "endpoint" / f"{option}.yaml")["module"]
    module, _, attribute = config["_target_"].rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    own = set(inspect.signature(target).parameters)
    given = {"network", "objective", "optimizer", "schedule", "num_classes", "seed", "training"}
    assert {key for key in config if not key.startswith("_")} == own - given


@pytest.mark.parametrize("group", ["evaluation", "runtime", "report"])
def test_options_of_a_plain_group_have_the_same_keys(group: str) -> None:
    keys = {frozenset(load(path)) for path in (CONF / group).glob("*.yaml")}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name not in ("ends", "experiment", "debug", "architecture")], ids=name
)
def test_every_option_composes(path: Path, config, tmp_path: Path) -> None:
    for part in ("train/images", "test/images"):
        (tmp_path / part).mkdir(parents=True)
    if path.stem == "tiny_imagenet":
        (tmp_path / "train" / "n01" / "images").mkdir(parents=True)
        (tmp_path / "val" / "images").mkdir(parents=True)
        (tmp_path / "val" / "images" / "val_0.JPEG").write_bytes(b"image")
        (tmp_path / "train" / "n01" / "images" / "n01_0.JPEG").write_bytes(b"image")
        (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t1\t1\n")
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(b"w")
    group, option = path.parent.name, path.stem
    words = [f"{PLACES.get(group, group)}={option}"]
    words += [f"dataset.root={tmp_path}"] if "root" in load(path) and "???" in str(load(path)["root"]) else []
    words += [f"dataset.root={tmp_path}"] if option == "tiny_imagenet" else []
    words += [f"endpoints.end.path={checkpoint}"] if option == "checkpoint" else []
    cfg = config(*words, tiny=False)
    place = PLACES.get(group, group).split("@")[-1] if group in PLACES else group
    chosen = cfg
    for part in place.split("."):
        chosen = chosen[part]
    assert set(load(path)) <= set(chosen)


@pytest.mark.parametrize("option", OPTIONS["probe"])
def test_every_probe_answers_for_each_image(option: str, make) -> None:
    """A new probe is asked unasked: one file and one YAML, along a path between backdoored networks with errors."""
    import json

    words = ["ends=backdoored", f"+probe@probes.mine={option}", "dataset.split.validation=60", "training.epochs=40"]
    words += ["+edit@endpoints.start.edits.inject=inject", "injection=fault_sneaking", "injection.attacked=1"]
    words += ["injection.kept=1", "injection.learning_rate=0.1", "curve=linear"]
    folder, state = make(*words, goal="evaluate")["measure mine"]
    assert state == "made"
    found = json.loads((folder / "measure.json").read_text())
    assert found["metrics"]
    for metric in found["metrics"]:
        assert metric["name"].startswith("mine_")
        assert metric["name"] in found["means"]
        assert metric["unit"] in ("nats", "share", "1")
        assert metric["better"] in ("lower", "higher", "neither")


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
    # In a ball this wide nothing stands for long, so that the slow parts have little to do.
    **{("attack", name): ("attack.eps=1.0",) for name in ("apgd_t", "autoattack", "deepfool")},
    ("attack", "apgd_ce"): ("attack.steps=5",),
    ("attack", "square"): ("attack.queries=10",),
    ("attack", "fmn"): ("attack.steps=5",),
    ("attack", "carlini_wagner"): ("attack.norm=l2", "attack.steps=5", "attack.searches=2", "~probe@probes.stronger"),
    ("backdoor", "none"): ("ends=regular_regular",),
    ("ends", "injected"): TINY_INJECTION,
    ("injection", "none"): ("ends=regular_regular",),
    ("injection", "fault_sneaking"): TINY_INJECTION,
    ("injection", "fault_sneaking_l0"): TINY_INJECTION,
    ("edit", "inject"): ("injection=fault_sneaking", *TINY_INJECTION),
    ("edit", "poison_tune"): ("backdoor=badnets",),
    ("edit", "prune"): ("architecture=small_cnn", "architecture.hidden=8"),
    ("endpoint", "copy"): ("+edit@endpoints.end.edits.permute=permute",),
    ("endpoint", "snapshot"): ("training.epochs=2",),
    ("endpoint", "poisoned"): ("backdoor=badnets",),
    **{("curve", name): ("ends=four_regular",) for name in ("bezier_surface", "bezier_surface_4x4", "bilinear")},
    ("curve", "bezier_triangle"): ("ends=three_regular",),
    ("reference", "bilinear"): ("ends=four_regular",),
}
ONE_STEP = {
    "backdoor": ("backdoor={}", "ends=backdoored"),
    "injection": ("injection={}", "ends=injected"),
    "edit": ("+edit@endpoints.end.edits.one={}",),
    "attack": ("attack={}",),
    "curve": ("curve={}",),
    "endpoint": ("endpoint@endpoints.end={}",),
    "evaluation": ("evaluation={}",),
    "normalization": ("normalization={}",),
    "objective": ("objective={}",),
    "optimizer": ("optimizer={}",),
    "ends": ("ends={}",),
    "reference": ("reference@references.straight={}",),
    "report": ("report={}",),
    "schedule": ("schedule={}",),
    "transform": ("transform={}",),
    "logger": ("logger={}",),
}
RUNS = [
    (group, option)
    for group in ONE_STEP
    for option in OPTIONS[group]
    if option not in ("checkpoint",) and (group, option) != ("edit", "path_aware")
]


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
        f"{group}={option}", "ends=backdoored", "architecture=small_cnn", "architecture.hidden=8", goal="repair"
    )
    folder, state = made["card"]
    assert state == "made"
    assert {"card.md", "card.json", "along.csv", "figure.png", "summary.json"} <= {p.name for p in folder.iterdir()}
