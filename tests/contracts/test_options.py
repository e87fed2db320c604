"""Contracts that enumerate conf/: a new option is tested unasked, a lost or misspelt one is noticed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import mcr
from mcr.app import composition, overrides
from mcr.app.composition import conf_folder
from mcr.app.options import description
from mcr.datasets.batches import EvaluationBatches
from mcr.merges.judge import Judge, Score
from mcr.metric import Metric
from mcr.numerics.seeding import generator
from mcr.plans import measures, recipes, repair
from mcr.store import build
from mcr.types import LabelledImages
from mcr.weightspace.subspace import inner_points
from tests.conftest import TINY, TOGETHER
from tests.test_datasets import Downloaded

CONF = conf_folder()
FILES = sorted(CONF.glob("*/*.yaml"))
# Options that must be there: deleting a file must be noticed. A new one need not be named here.
SHIPPED = {
    "architecture": "enresnet20 imported mlp nemon preresnet110 preresnet164 preresnet26 resnet18 small_cnn small_vgg "
    "tnn tnn_leapfrog two_layer vgg16 vgg16_bn vgg19 vit_tiny wrn28_10",
    "attack": "apgd_ce apgd_t autoattack carlini_wagner deepfool fgsm fmn none pgd square",
    "backdoor": "adaptive_patch badnets badnets_all_to_all blended bpp ftrojan none sinusoidal wanet wrong_labels",
    "curve": "bezier bezier_surface bezier_surface_4x4 bezier_triangle bilinear free_simplex linear polychain simplex",
    "dataset": "cifar10 cifar100 digits fashion_mnist imagefolder imagefolder_clean mnist svhn synthetic tiny_imagenet",
    "debug": "default",
    "detector": "local_tangent nearest_neighbours",
    "edit": "inject match_activations match_jointly match_weights path_aware permute poison_tune prune together tune",
    "endpoint": "adversarial certified checkpoint copy dnr fgsm_rs fresh permuted_copy poisoned quantised reweighted "
    "snapshot standard swa tradeoff trades tuned_copy with_trusted",
    "ends": "aligned backdoored four_aligned four_backdoored four_regular four_robust injected path_aware "
    "regular_regular regular_robust robust_robust three_regular three_together",
    "evaluation": "path quick record",
    "experiment": "zhao2020_ensemble zhao2020_ensemble_digits zhao2020_fig2_backdoor_path "
    "zhao2020_fig2_backdoor_path_digits zhao2020_fig4_barrier zhao2020_fig4_barrier_cifar10_small "
    "zhao2020_fig4_barrier_digits zhao2020_gradient_similarity zhao2020_gradient_similarity_digits "
    "zhao2020_path_aware zhao2020_path_aware_digits zhao2020_robust_connection "
    "zhao2020_robust_connection_cifar10_small zhao2020_robust_connection_digits zhao2020_table2_backdoor "
    "zhao2020_table2_backdoor_cifar10_small zhao2020_table2_backdoor_digits zhao2020_table3_injection "
    "zhao2020_table3_injection_cifar10_small zhao2020_table3_injection_digits",
    "hparams_search": "smallest_barrier",
    "hydra": "mcr",
    "injection": "fault_sneaking fault_sneaking_l0 gaussian none",
    "logger": "csv none wandb",
    "merge": "average best_corner best_point corners greedy_soup points",
    "normalization": "dataset fixed",
    "objective": "adversarial adversarial_warmup certified cross_entropy disturbed fgsm_rs tradeoff trades",
    "optimizer": "adamw sgd",
    "probe": "accuracy alignment answer answer_attacked attack_convergence attack_success calibration certified_risk "
    "detection ensemble gradient_similarity input_curvature recovered risk risk_fitted robust_risk "
    "stronger_attacks success transfer triggered_similarity weights",
    "reference": "bilinear regular simplex straight",
    "repair": "anp augmented average clp finetune fst ft_sam i_bau nad noise path_augmented path_point portfolio prune "
    "rebn scratch shared_perturbation swap",
    "report": "default",
    "penalty": "cosine none volume",
    "runtime": "auto cpu ddp gpu",
    "sampling": "edges phased sobol stratified uniform",
    "schedule": "cosine cycles flat_linear_flat one_cycle step",
    "selection": "estimated_success farthest middle",
    "signal": "noise_gap shared_masks shared_perturbations square_gap",
    "start": "blend coons layerwise",
    "transform": "magnitude mask none quantise",
}
OPTIONS = {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()}
OVERLAYS = ("ends", "experiment", "hparams_search", "debug")  # they only override others
# Where an option of a group stands in a configuration, and the words that put it there.
PLACES = {
    "endpoint": ("endpoints.end", "endpoint@endpoints.end"),
    "merge": ("merges.added", "+merge@merges.added"),
    "reference": ("references.straight", "reference@references.straight"),
    "probe": ("probes.added", "+probe@probes.added"),
    "edit": ("endpoints.end.edits.added", "+edit@endpoints.end.edits.added"),
    "signal": ("suspicion.signals.masks", "signal@suspicion.signals.masks"),
    "detector": ("probes.seen.detector", "+probe@probes.seen=detection detector@probes.seen.detector"),
}
# What only the program knows, by group: constructor arguments that no YAML holds.
TRAINING = {"network", "objective", "optimizer", "schedule", "num_classes", "seed", "training", "suspects", "trusted"}
GIVEN = {
    "architecture": {"num_classes", "in_channels", "image_size"},
    "edit": {"position"},
    "normalization": {"statistics"},
    "module": TRAINING,
}
# What a YAML holds beside its constructor's arguments, by group.
BESIDE = {
    "curve": {"joins", "fits"},
    "dataset": {"augmentation", "split"},
    "edit": {"kind", "label", "data", "joint", "numbers", "reference", "use"},
    "injection": {"numbers"},
    "logger": {"kind"},
    "merge": {"label", "curve", "objective", "data", "images"},
    "start": {"edges", "joins"},
    "probe": set(measures.ASKED),
    "repair": {*repair.TRAINED, "members"},
}
# Groups whose options are objects of a room, one module each.
HOMES = {
    "architecture": "architectures",
    "attack": "attacks",
    "backdoor": "backdoors",
    "curve": "curves",
    "dataset": "datasets",
    "detector": "detectors",
    "edit": "edits",
    "injection": "injections",
    "merge": "merges",
    "penalty": "penalties",
    "objective": "objectives",
    "probe": "probes",
    "repair": "repairs",
    "sampling": "sampling",
    "schedule": "schedules",
    "selection": "selection",
    "signal": "signals",
    "start": "starts",
    "transform": "transforms",
}
# Modules of a room that its options share, beside one of the group's own name: what each of them is.
SHARED = {
    "architecture": {"initial", "normalization", "preactivation"},
    "attack": {"autoattack_adapter", "ball", "evasion", "foolbox_adapter", "frozen"},
    "backdoor": {"planting", "poisoning"},
    "curve": {"barycentric", "bernstein", "box"},
    "dataset": {
        "augment",
        "batches",
        "classes",
        "decoding",
        "disturbed",
        "folder",
        "left_out",
        "split",
        "torchvision_source",
    },
    "detector": set(),
    "injection": {"injected"},
    "merge": {"judge"},
    "probe": {"answers", "divergence", "input_gradient", "input_hessian", "hessian_product", "piecewise", "triggered"},
    "repair": {"asked", "bench", "held_out", "suspicion", "transfer"},
    "penalty": set(),
    "sampling": {"sampler"},
    "selection": {"choice"},
    "signal": {"estimate", "gap", "masks", "perturbations", "surrogates"},
    "start": set(),
}
Composed = Callable[..., dict[str, Any]]
# Its runs show that whatever is measured can be drawn.
pytestmark = pytest.mark.drawn


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text()) or {}


def name(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def of_group(*groups: str) -> list[Path]:
    return [path for path in FILES if path.parent.name in groups]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for what a user has: class folders, the layout of Tiny ImageNet, a checkpoint."""
    root = tmp_path_factory.mktemp("files")
    for index in range(80):
        for place in (root / "train" / f"class{index % 4}", root / "test" / f"class{index % 4}"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 3 * index, np.uint8)).save(place / f"{index}.png")
    for index in range(2):
        place = root / "tiny" / "train" / f"n0{index}" / "images"
        place.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(place / "0.JPEG")
    (root / "tiny" / "val" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(root / "tiny" / "val" / "images" / "0.JPEG")
    (root / "tiny" / "val" / "val_annotations.txt").write_text("0.JPEG\tn01\t0\t0\t62\t62\n")
    (root / "weights.pt").write_bytes(b"w")
    return root


@pytest.fixture(scope="session")
def composed(files: Path) -> Composed:
    """The whole configuration with an option at its place, and the option there: what it inherits is part of it."""
    overrides.register_resolvers()
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    needed = {
        "imagefolder": f"dataset.root={files}",
        "imagefolder_clean": f"dataset.root={files}",
        "tiny_imagenet": f"dataset.root={files / 'tiny'}",
        "checkpoint": f"endpoints.end.path={files / 'weights.pt'}",
        "imported": "architecture._target_=torch.nn.Linear",
    }

    def compose(path: Path, *more: str, whole: bool = False) -> dict[str, Any]:
        group, option = path.parent.name, path.stem
        chosen = {group: option}
        if not more and not whole:
            # One option of each group at once, so that all are composed in a few lines.
            chosen = row(
                tuple(group for group in OPTIONS if group not in (*OVERLAYS, "hydra")),
                OPTIONS[group].index(option),
            )
        words = [
            word for name, value in chosen.items() for word in f"{PLACES.get(name, (name, name))[1]}={value}".split()
        ]
        words += [needed[value] for value in chosen.values() if value in needed]
        words += more
        if tuple(words) not in known:
            args = overrides.parse_arguments(words)
            known[tuple(words)] = overrides.compose_jobs(composition.conf_folder(), args, "report").jobs[0].config
        found = known[tuple(words)]
        for part in () if whole else PLACES.get(group, (group,))[0].split("."):
            found = found[part]
        return found

    return compose


def plain(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of what an option names."""
    return recipes.without(config, *BESIDE.get(path.parent.name, ()))


def named(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What an option names: itself, and the module that a training is."""
    if "_target_" in config:
        yield path.parent.name, plain(path, config)
    if "module" in config:
        yield "module", config["module"]


def test_no_option_was_lost() -> None:
    lost = {group: set(options.split()) - set(OPTIONS.get(group, ())) for group, options in SHIPPED.items()}
    assert not any(lost.values()), lost
    assert set(OPTIONS) == set(SHIPPED)


@pytest.mark.parametrize("group", HOMES)
def test_every_module_of_a_room_has_a_yaml(group: str) -> None:
    """A public class that no option names is out of a user's reach."""
    used = {part for path in of_group(group) for part in str(load(path).get("_target_", "")).split(".")[-2:-1]}
    found = {path.stem for path in (Path(mcr.__file__).parent / HOMES[group]).glob("*.py")}
    assert found - used - {group} == SHARED.get(group, set()) | {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_option_says_what_it_is(path: Path) -> None:
    assert len(description(path)) > 15


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name not in (*OVERLAYS, "hydra")], ids=name)
def test_a_composed_option_and_its_target_agree_both_ways(path: Path, composed: Composed) -> None:
    """YAML is the only source of defaults: every argument is in the YAML, every key is an argument."""
    config = composed(path)
    assert set(load(path)) - {"defaults"} <= set(config)
    if path.stem == "none" and path.parent.name not in ("logger",):
        assert config == {}
    for kind, part in named(path, config):
        parameters = inspect.signature(build.locate(part["_target_"])).parameters
        keys = {key for key in part if not key.startswith("_")}
        if not part["_target_"].startswith("mcr."):
            assert keys <= set(parameters)
            continue
        assert [p.name for p in parameters.values() if p.default is not inspect.Parameter.empty] == []
        assert keys | GIVEN.get(kind, set()) >= set(parameters)
        # The modules of a training pass on what they take by name.
        assert keys <= set(parameters)


@pytest.mark.parametrize("path", of_group(*(set(HOMES) - {"repair"})), ids=name)
def test_a_yaml_is_named_after_its_module(path: Path, composed: Composed) -> None:
    config = load(path)
    if "_target_" in config and path.stem != "imported":
        assert path.stem.startswith(config["_target_"].split(".")[-2])


@pytest.mark.parametrize("group", ["evaluation", "runtime", "report"])
def test_options_of_a_plain_group_have_the_same_keys(group: str, composed: Composed) -> None:
    assert len({frozenset(composed(path)) for path in of_group(group)}) == 1


# What is built from its YAML alone.
@pytest.mark.parametrize(
    "path",
    of_group("attack", "backdoor", "injection", "optimizer", "schedule", "selection", "signal", "transform"),
    ids=name,
)
def test_an_option_is_built_from_its_yaml(path: Path, composed: Composed) -> None:
    config = plain(path, composed(path))
    if config:
        assert build.build(config) is not None


@pytest.mark.parametrize("path", of_group("objective"), ids=name)
def test_an_objective_gives_a_loss_of_each_image(path: Path, composed: Composed) -> None:
    cfg = composed(path, whole=True)
    objective = build.build_tree(recipes.attacked(cfg, cfg["objective"]))
    network, (images, labels) = tiny(), next(iter(images_of(3)))
    losses, logits = objective(network, images, labels, generator(0))
    assert losses.shape == (len(labels),)
    assert logits.shape == (len(labels), 3)
    losses.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("path", of_group("curve"), ids=name)
def test_a_curve_joins_and_fits_what_its_yaml_says(path: Path, composed: Composed) -> None:
    config = composed(path)
    curve = build.build(plain(path, config))
    assert curve.ends == config["joins"]
    assert bool(inner_points(curve)) == (config["fits"] == "inner")
    begun, ones = curve.initial(), torch.ones(curve.ends, dtype=torch.float64)
    assert torch.allclose(begun @ ones, torch.ones(len(begun), dtype=torch.float64))
    for u in [*curve.grid(3), curve.sample(generator(0))]:
        curve.check(u)
        assert float(curve.coefficients(u).sum()) == pytest.approx(1)


def tiny(seed: int = 0) -> nn.Module:
    """A small convolutional network with BatchNorm: grey images 8x8 to three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten())
        return nn.Sequential(*layers, nn.Linear(16, 3)).eval()


def images_of(classes: int) -> EvaluationBatches:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=draw)
    return EvaluationBatches(images, torch.arange(12) % classes, 5, "contiguous")


ASKED = ("backdoor=badnets", "backdoor.size=2", "attack.steps=2", "endpoint@endpoints.start=poisoned")


@pytest.mark.parametrize("path", of_group("probe"), ids=name)
def test_a_probe_answers_with_every_metric_that_it_declares(path: Path, composed: Composed) -> None:
    cfg = composed(path, *ASKED, "+edit@endpoints.start.edits.inject=inject", "injection=fault_sneaking", whole=True)
    (part,) = (found for asked, found in asked_of(cfg).items() if asked == "added")
    probe, data = build.build_tree(plain(path, part)), images_of(3)
    networks = [tiny() for _ in range(3)]
    for index, network in enumerate(networks):
        network[-1].weight.data += index
    metrics = [metric.name for metric in probe.metrics]
    assert metrics
    assert len(set(metrics)) == len(metrics)
    assert all(isinstance(metric, Metric) for metric in probe.metrics)
    together = hasattr(probe, "ask")

    def answers() -> Mapping[str, torch.Tensor]:
        draw = generator(0, probe.draws)
        return probe.ask(networks, data, draw) if together else probe(networks[0], data, draw)

    values, again = answers(), answers()
    assert set(values) == set(metrics)
    assert all(torch.equal(values[metric], again[metric]) for metric in metrics)
    lengths = {value.shape[-1] for value in values.values()}
    assert lengths <= set(range(1, 13))
    assert all(value.isfinite().all() for value in values.values())
    if together:
        assert {tuple(value.shape[:-1]) for value in values.values()} <= {(), (3,), (3, 3)}
        summed = probe.statistics(values, ["0", "1", "2"], [0, 2])
        assert all(isinstance(value, float | str) for value in summed.values())
        # What a claim may be about.
        assert [found for found, value in summed.items() if isinstance(value, float)] == list(probe.numbers)
        assert probe.numbers
    else:
        assert all(value.dim() == 1 for value in values.values())
    shares = [metric.name for metric in probe.metrics if metric.unit == "share" and metric.better == "higher"]
    assert all(0 <= float(values[metric].double().mean()) <= 1 for metric in shares)


def asked_of(cfg: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The probes of a configuration, with what the plan fills in."""
    from mcr.plans.networks import Networks
    from mcr.plans.node import node

    data = node("data", "data", {})
    dataset = {"data": data, "split": node("split", "split", {}, data=data)}
    model = {"architecture": cfg["architecture"], "normalization": cfg["normalization"]}
    return measures.asked(cfg, Networks(cfg, model, dataset).final())


@pytest.mark.parametrize("path", of_group("edit"), ids=name)
def test_an_edit_gives_changed_weights_and_leaves_the_network(path: Path, composed: Composed) -> None:
    config = composed(path, "injection=gaussian")
    assert config["kind"] in ("edit", "tune", "together", "jointly")
    if config["kind"] not in ("edit", "jointly"):
        return  # trained, which the runs below do
    if "injection" in config:
        config = {**config, "injection": recipes.without(config["injection"], "numbers")}
    position = {"position": 1} if config["kind"] == "jointly" else {}  # the first one stays
    edit, network, data = build.build_tree({**plain(path, config), **position}), tiny(), images_of(3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    images = LabelledImages(data.images, data.labels) if config["data"] != "nothing" else nothing(data)
    alike = [tiny().state_dict()] if config.get("joint") else []
    others = [tiny(1).state_dict()] if "reference" in config or position else alike
    edited, again = (edit(network, others, images, generator(0, edit.draws)) for _ in range(2))
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in before.items())
    assert edited.tensors
    assert all(tensor.shape == before[key].shape for key, tensor in edited.tensors.items())
    assert any(not torch.equal(tensor, before[key]) for key, tensor in edited.tensors.items())
    assert all(torch.equal(tensor, again.tensors[key]) for key, tensor in edited.tensors.items())


def nothing(data: EvaluationBatches) -> LabelledImages:
    return LabelledImages(data.images[:0], data.labels[:0])


class Fetched(Downloaded):
    """The same, with labels of ten classes."""

    def __init__(self, root: str, download: bool, **selection: object) -> None:
        super().__init__(root, download, **selection)
        if hasattr(self, "targets"):
            self.targets = [label % 10 for label in self.targets]


@pytest.mark.parametrize("path", of_group("merge"), ids=name)
def test_a_merge_picks_places_of_its_subspace(path: Path, composed: Composed) -> None:
    config = composed(path, whole=True)["merges"]["added"]
    curve = build.build(recipes.without(config["curve"], "joins", "fits"))
    judge = Judge(curve, lambda u: Score(0.5, float(u.sum())))
    found = build.build(plain(path, config)).pick(judge)
    assert len(found) >= 1
    for u in found:
        assert u.dtype == torch.float64
        curve.check(u)


@pytest.mark.parametrize("path", of_group("dataset"), ids=name)
def test_every_dataset_is_loaded(path: Path, composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = plain(path, composed(path))
    for kind in ("CIFAR10", "CIFAR100", "SVHN", "MNIST", "FashionMNIST"):
        monkeypatch.setattr(f"torchvision.datasets.{kind}", Fetched)
    if "root" in config and "fingerprint" not in config:
        config["root"] = {"mnist": "mnist", "fashion_mnist": "mnist", "svhn": "svhn"}.get(path.stem, "other")
    source = build.build(config).load()
    assert set(source.parts) in ({"all"}, {"train", "test"})
    for part in source.parts.values():
        assert part.images.dtype == torch.uint8
        assert part.images.dim() == 4
        assert part.labels.shape == (len(part.images),)
        assert 0 <= int(part.labels.min()) <= int(part.labels.max()) < len(source.classes)


SMALL_STEP = ("dataset.images=120", "dataset.split.train=2", "training.batch_size=2", "dataset.split.validation=8")


@pytest.mark.slow
@pytest.mark.parametrize("option", [o for o in OPTIONS["architecture"] if o != "imported"])
def test_every_architecture_takes_one_step_and_uses_all_layers(option: str, config, make) -> None:
    from mcr.stages import artifacts, model
    from mcr.store import jsonfile

    words = [
        "dataset.image_size=32",
        "dataset.channels=3",
        f"architecture={option}",
        *SMALL_STEP,
        "normalization=fixed",
        "endpoint@endpoints.end=copy",
    ]
    words = [*[w for w in TINY if not w.startswith("architecture")], *words]
    made = make(*words, goal="train", tiny=False)
    folder, state = made["train start"]
    assert state == "made"
    assert jsonfile.read(folder / artifacts.TRAINING)["warnings"] == []  # its gradients are those of its logits
    cfg = config(*words, tiny=False)
    network = model.make(cfg, artifacts.read_spec(made["data"][0]), "0")
    network.network.load_state_dict({k.removeprefix("network."): v for k, v in artifacts.read_network(folder).items()})
    network.eval()(torch.rand(2, 3, 32, 32)).square().sum().backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert unused == []


# Whole runs, from training to report. A run takes one option of each of its groups, so that all options are run.
FEW = (
    *("dataset.images=128", "dataset.split.test=32", "dataset.split.train=32", "dataset.split.validation=40"),
    *("dataset.split.clean=16", "probes.stronger.images=2", TOGETHER),
)
CONVOLUTIONS = ("architecture=small_cnn", "architecture.hidden=8")
WITH_BATCHNORM = (*(w for w in TINY if "architecture" not in w), "architecture=small_vgg", "architecture.width=4")
SNEAKING = ("injection.attacked=1", "injection.kept=1", "injection.iterations=200", "injection.learning_rate=0.1")
# In a ball this wide nothing stands for long, so that the slow parts have little to do.
ATTACKS = {
    "apgd_ce": ("attack.steps=5",),
    "apgd_t": ("attack.eps=1.0",),
    "autoattack": ("attack.eps=1.0",),
    "carlini_wagner": ("attack.norm=l2", "attack.steps=5", "attack.searches=2"),
    "deepfool": ("attack.eps=1.0",),
    "fmn": ("attack.steps=5",),
    "square": ("attack.queries=10",),
}
ENDS = {2: (), 3: ("ends=three_regular",), 4: ("ends=four_regular",)}


def row(groups: tuple[str, ...], number: int, leave: tuple[str, ...] = ()) -> dict[str, str]:
    """The number's option of each group, the options of a shorter group again and again."""
    found = {}
    for group in groups:
        options = [option for option in OPTIONS[group] if f"{group}={option}" not in leave]
        found[group] = options[number % len(options)]
    return found


def rows(groups: tuple[str, ...], leave: tuple[str, ...] = ()) -> list[dict[str, str]]:
    most = max(len([o for o in OPTIONS[group] if f"{group}={o}" not in leave]) for group in groups)
    return [row(groups, number, leave) for number in range(most)]


SETTINGS = rows(
    ("ends", "backdoor", "objective", "optimizer", "schedule", "logger", "evaluation", "normalization", "report"),
    ("backdoor=none",),
)
# Made of networks that lie in files, or of all networks at once: tested in test_cli.py, and above by ends=.
PARTS = rows(
    ("curve", "endpoint", "edit", "attack", "injection", "probe", "transform"),
    ("endpoint=checkpoint", "edit=path_aware", "edit=together", "edit=match_jointly", "injection=none", "attack=none"),
)


def said(chosen: dict[str, str]) -> str:
    return " ".join(f"{group}={option}" for group, option in chosen.items())


@pytest.mark.slow
@pytest.mark.parametrize("chosen", SETTINGS, ids=said)
def test_every_setting_runs_from_training_to_report(chosen: dict[str, str], make_shared) -> None:
    words = [f"{group}={option}" for group, option in chosen.items()]
    words += [*SNEAKING, "training.epochs=40"] if chosen["ends"] == "injected" else []
    words += ["attack.start=random", "attack.steps=2"]
    _reported(make_shared(*words, *FEW))


@pytest.mark.slow
@pytest.mark.parametrize("chosen", PARTS, ids=said)
def test_every_part_runs_from_training_to_report(chosen: dict[str, str], make_shared, composed: Composed) -> None:
    joins = composed(CONF / "curve" / f"{chosen['curve']}.yaml")["joins"]
    words = [
        *ENDS[3 if chosen["curve"] == "simplex" else joins],
        f"curve={chosen['curve']}",
        *CONVOLUTIONS,
        "backdoor=badnets",
        "backdoor.size=2",
    ]
    edited = "end" if chosen["edit"].startswith("match_") else "start"  # a network is not aligned with itself
    words += [f"endpoint@endpoints.end={chosen['endpoint']}"]
    words += [f"+edit@endpoints.{edited}.edits.added={chosen['edit']}"]
    words += ["reference@references.straight=simplex"] if chosen["curve"] != "simplex" else []
    words += [f"transform={chosen['transform']}", f"injection={chosen['injection']}", "attack.steps=2"]
    words += [*SNEAKING, "training.epochs=40"] if "sneaking" in chosen["injection"] else []
    words += [f"+probe@probes.added={chosen['probe']}"]
    # An attack of a probe alone stays in the ball of the run's attack.
    words += [f"+attack@probes.robust.attack={chosen['attack']}", "probes.robust.images=2"]
    for word in ATTACKS.get(chosen["attack"], ()):
        words.append(word if word.startswith(("attack.eps", "attack.norm")) else f"probes.robust.{word}")
    _reported(make_shared(*words, *FEW))


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS["attack"])
def test_every_attack_may_be_that_of_the_run(option: str, make_shared) -> None:
    folder = _reported(make_shared(f"attack={option}", *ATTACKS.get(option, ()), *FEW))
    assert ("robust_loss" in (folder / "path.csv").read_text()) == (option != "none")


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS["reference"])
def test_every_reference_runs_from_training_to_report(option: str, make_shared, composed: Composed) -> None:
    joins = composed(CONF / "reference" / f"{option}.yaml")["curve"]["joins"]
    words = (*ENDS[joins], f"reference@references.straight={option}", "objective=adversarial", "attack.steps=2")
    folder = _reported(make_shared(*words, *FEW))
    assert (folder / "straight.csv").is_file()


@pytest.fixture
def make_shared(make, shared: Path):
    """Networks that several runs have in common are trained once."""
    return partial(make, f"paths.store={shared / 'store'}")


def _reported(made: dict[str, tuple[Path, str]]) -> Path:
    folder, state = made["report"]
    assert state == "made"
    assert {"figure.png", "path.csv", "report.md", "summary.json"} <= {p.name for p in folder.iterdir()}
    return folder


@pytest.mark.parametrize("option", ["digits", "synthetic", "imagefolder"])
def test_every_source_that_needs_no_download_runs(option: str, make_shared, files: Path) -> None:
    words = [f"dataset={option}", "debug=default", "architecture=mlp", "architecture.hidden=[8]", "training.epochs=1"]
    words += [f"dataset.root={files}"] if option == "imagefolder" else []
    words += ["dataset.split={train: 12, validation: 8, clean: 8, test: 8}"]
    assert make_shared(*words, tiny=False)["report"][1] == "made"


@pytest.mark.slow
@pytest.mark.parametrize("chosen", rows(("repair", "selection")), ids=said)
def test_every_option_of_a_repair_runs_to_its_card(chosen: dict[str, str], make_shared) -> None:
    words = [f"{group}={option}" for group, option in chosen.items()]
    made = make_shared(*WITH_BATCHNORM, *words, "ends=backdoored", goal="repair", tiny=False)
    folder, state = made["card"]
    assert state == "made"
    assert {"card.md", "card.json", "along.csv", "figure.png", "summary.json"} <= {p.name for p in folder.iterdir()}
