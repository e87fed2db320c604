"""The library face: the same numbers as the command line, and one clear line for what cannot be."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mcr
from mcr.app import cli, run
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.library.data import labelled
from mcr.numerics.seeding import generator
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.stages import artifacts, model, session
from mcr.weightspace import files
from tests.conftest import TINY
from tests.reading import column

IMAGES = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
LABELS = (IMAGES.float().mean((1, 2, 3)) > 127).long() + (IMAGES[:, 0, 0, 0] > 127)
TRAIN, TEST = (IMAGES[:64], LABELS[:64]), (IMAGES[64:], LABELS[64:])
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.05}


class Bare(nn.Module):
    """Weights of its own, and no way to draw them anew."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3, 64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight.T


def network(seed: int, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(216, 3),
        ]
        return nn.Sequential(*layers)


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture
def finished(make, config, tmp_path: Path) -> tuple[Path, dict[str, Path], dict[str, Any]]:
    """A run's folder, the folders of its stages, its configuration: BatchNorm, augmentation, uneven seeds."""
    words = (*(word for word in TINY if not word.startswith("architecture")), f"paths.root={tmp_path}")
    words += (
        "architecture=small_vgg",
        "dataset.image_size=16",
        "dataset.augmentation={padding: 2, flip: 0.5}",
        "logger=none",
        "replicate=3",
    )
    words += ("evaluation.seed=4", "fit.epochs=2", "evaluation.batchnorm_images=50", "dataset.split.seed=7")
    cfg = config(*words, tiny=False)
    folder = tmp_path / "finished"
    run.carry_out(cfg, folder, "tests")
    places = {link.name: link.resolve() for link in (folder / "stages").iterdir()}
    return folder, places, cfg


def test_a_network_of_a_finished_run_is_bit_for_bit_that_of_its_report(finished) -> None:
    folder, places, _ = finished
    space = mcr.Subspace.of_run(folder)
    found, statistics = session.read_places(places["place-path"])
    test = artifacts.read_split({"data": places["data"], "split": places["split"]}, "test", "cpu")
    images = next(iter(EvaluationBatches(test.images, test.labels, 64, "channels_last")))[0]
    for u, kept in zip(found, statistics, strict=True):
        reported = copy.deepcopy(space.at_with(u, kept)).eval()
        assert torch.equal(space.at(float(u))(images), reported(images))
    measured = mcr.measure(space, test, {"test": "risk"}, at=found.squeeze(1).tolist())
    assert measured.table.column("test_loss") == column({"report": (folder, "")}, "test_loss")
    assert measured.table.column("arc_length") == column({"report": (folder, "")}, "arc_length")


def test_a_subspace_of_modules_is_bit_for_bit_that_of_the_report(finished) -> None:
    folder, places, cfg = finished
    spec = artifacts.read_spec(places["data"])
    networks = []
    for name in ("start", "end"):
        made = model.make({key: cfg[key] for key in ("architecture", "normalization")}, spec, "any")
        mcr.load(places[f"train-{name}"] / "network.safetensors", made.network)
        networks.append(made)
    inputs = {"data": places["data"], "split": places["split"]}
    train = artifacts.read_split(inputs, "train", "cpu")
    evaluation = {name: cfg["evaluation"][name] for name in ("batchnorm_images", "seed")}
    space = mcr.Subspace(networks, "bezier", train, augmentation=Augmentation(padding=2, flip=0.5), **evaluation)
    control = files.load(places["connect-path"] / "control.safetensors")
    named = {f"network.{name.removeprefix('1/')}": tensor for name, tensor in control.items()}
    space.set_inner_points([space.layout.pack(named)])
    images = torch.rand(5, 1, 16, 16, generator=generator(0, "test"))
    assert torch.equal(space.at(0.25)(images), mcr.Subspace.of_run(folder).at(0.25)(images))


def test_a_fit_is_bit_for_bit_that_of_the_command_line(finished) -> None:
    _, places, cfg = finished
    inputs = {"data": places["data"], "split": places["split"]}
    part = {name: artifacts.read_split(inputs, name, "cpu") for name in ("train", "validation")}
    spec = artifacts.read_spec(places["data"])
    common: dict[str, Any] = {"augmentation": Augmentation(padding=2, flip=0.5)}
    networks = []
    for name in ("start", "end"):
        config = json.loads((places[f"train-{name}"] / "stage.json").read_text())["config"]
        made = model.make(config, spec, config["seed"]).to(memory_format=torch.channels_last)
        recipe = {key: cfg["endpoints"][name][key] for key in ("epochs", "batch_size")}
        mcr.fit(made, part["train"], validation=part["validation"], seed=config["seed"], **recipe, **common)
        expected = artifacts.read_network(places[f"train-{name}"])
        assert all(torch.equal(value, expected[key]) for key, value in made.state_dict().items())
        networks.append(made)
    config = json.loads((places["connect-path"] / "stage.json").read_text())["config"]
    space = mcr.Subspace(networks, "bezier", part["train"], **common)
    recipe = {key: cfg["fit"][key] for key in ("epochs", "batch_size")}
    mcr.fit(space, part["train"], seed=config["seed"], **recipe, **common)
    control = files.load(places["connect-path"] / "control.safetensors")
    expected = space.layout.pack({f"network.{name.removeprefix('1/')}": tensor for name, tensor in control.items()})
    assert torch.equal(space.points[1], expected)


def test_a_data_set_has_the_splits_of_the_command_line(finished) -> None:
    _, places, cfg = finished
    settings = {name: cfg["dataset"][name] for name in ("image_size", "channels", "images")}
    found = mcr.dataset("synthetic", **settings, split=cfg["dataset"]["split"])
    for name, part in found.items():
        expected = artifacts.read_split({"data": places["data"], "split": places["split"]}, name, "cpu")
        assert torch.equal(part.images, expected.images)
        assert torch.equal(part.labels, expected.labels)


def test_tensors_data_sets_loaders_and_floats_are_the_same_data() -> None:
    floats = IMAGES.float() / 255  # what torchvision's ToTensor gives
    pairs = TensorDataset(floats, LABELS.int())
    for data in ((IMAGES, LABELS), (floats, LABELS), pairs, DataLoader(pairs, batch_size=7)):
        found = labelled(data)
        assert torch.equal(found.images, IMAGES)
        assert torch.equal(found.labels, LABELS)
    smooth = floats * 0.37
    assert torch.equal(labelled((smooth, LABELS)).images, smooth)


def test_floats_are_augmented_and_fed_as_bytes_are() -> None:
    augmentation = Augmentation(padding=2, flip=0.5)
    bytes_, floats = (augmentation(images, generator(1, "t")) for images in (IMAGES, IMAGES.float() / 255))
    torch.testing.assert_close(floats, bytes_.float() / 255)
    # A blend of three networks of floats that are no bytes trains too.
    space = mcr.Subspace([network(1), network(2)], "bezier", (IMAGES.float() / 311, LABELS), augmentation=augmentation)
    mcr.fit(space, (IMAGES.float() / 311, LABELS), augmentation=augmentation, **QUICK)
    assert torch.isfinite(space.points[1]).all()


@pytest.mark.parametrize("evaluating", [False, True])
def test_a_training_with_dropout_is_repeatable_and_leaves_the_global_generator(evaluating: bool) -> None:
    """Networks come in either mode; they are trained with dropout and their own batch statistics all the same."""
    found = []
    for wasted in (0, 1000):
        torch.rand(wasted)
        state = torch.get_rng_state()
        one = network(1, dropout=0.5).train(not evaluating)
        rows = mcr.fit(one, TRAIN, validation=TEST, seed=3, **QUICK).rows
        assert torch.equal(torch.get_rng_state(), state)
        space = mcr.Subspace([one, network(2, dropout=0.5)], "bezier", TRAIN)
        mcr.fit(space, TRAIN, seed=3, **QUICK)
        found.append((one, space.points[1].clone(), rows))
    assert same(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]
    assert (found[0][0][1].running_mean != 0).all()
    other, plain = network(1, dropout=0.5), network(1, dropout=0.0)
    mcr.fit(other, TRAIN, seed=4, **QUICK)
    mcr.fit(plain, TRAIN, seed=3, **QUICK)
    assert not same(found[0][0], other)
    assert not same(found[0][0], plain)


def test_the_order_of_weights_in_memory_changes_no_network() -> None:
    """A path that lies in memory in another order than the fit's usual one would come back shuffled."""
    one, two = network(1), network(2)
    found = []
    for order in ("channels_last", "contiguous"):
        path = mcr.Subspace([one, two], "bezier", TRAIN, memory_format=order)
        mcr.fit(path, TRAIN, **QUICK)
        found.append([copy.deepcopy(path.at(t))(TEST[0].float() / 255) for t in (0.0, 0.5, 1.0)])
    for given, fitted in zip(*found, strict=True):
        torch.testing.assert_close(given, fitted, rtol=1e-3, atol=1e-4)


def test_a_loader_trains_with_its_own_batches() -> None:
    loader = DataLoader(TensorDataset(TRAIN[0].float() / 255, TRAIN[1]), batch_size=16)
    one, two = network(1), network(1)
    state = torch.get_rng_state()
    rows = mcr.fit(one, loader, epochs=2, lr=0.05).rows
    assert torch.equal(torch.get_rng_state(), state)
    assert len(rows) == 2
    assert not same(one, two)
    space = mcr.Subspace([one, two], "polychain", loader)
    mcr.fit(space, loader, epochs=1, lr=0.05)
    assert not torch.equal(space.points[1], (space.points[0] + space.points[2]) / 2)


def test_measures_are_those_by_hand() -> None:
    """Uneven ends, batches that do not divide the images, places that are no grid."""
    one, two = network(1), network(2)
    mcr.fit(one, TRAIN, **QUICK)
    space = mcr.Subspace({"a": one, "b": two}, "linear", TRAIN)
    attack = mcr.option("attack", "pgd", eps=0.1, steps=2, step_size=0.05)
    probes = {"clean": "risk", "robust": mcr.option("probe", "robust_risk", attack=attack), "both": "transfer"}
    probes["both"] = mcr.option("probe", "transfer", attack=attack)
    found = mcr.measure(space, TEST, probes, at=[0.3, 0.45], batch_size=5)
    assert found.table.column("t") == [0.0, 0.3, 0.45, 1.0]
    images = TEST[0].float() / 255
    losses = []
    for t in (0.0, 0.3, 0.45, 1.0):
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(space.at(t)(images), TEST[1], reduction="none"))
    np.testing.assert_allclose(found.table.column("clean_loss"), [float(x.mean()) for x in losses], rtol=1e-5)
    summary = found.summary()
    highest, inner = max((0, 3), key=lambda i: losses[i].mean()), max((1, 2), key=lambda i: losses[i].mean())
    difference = losses[inner] - losses[highest]
    assert summary["clean_loss"]["interior"] == pytest.approx(float(difference.mean()), rel=1e-4)
    assert summary["clean_loss"]["interior_se"] == pytest.approx(
        float(difference.std() / len(difference) ** 0.5), rel=1e-3
    )
    assert summary["clean_loss"]["a"] == pytest.approx(float(losses[0].mean()), rel=1e-5)
    assert set(summary["both"]) >= {"advantage", "at"}
    assert max(found.table.column("robust_accuracy")) <= max(found.table.column("clean_accuracy"))
    assert "clean error %" in str(found)
    assert [axis.get_ylabel() for axis in found.plot().axes] == ["clean loss", "accuracy %", "robust loss"]


def test_probes_of_several_networks_may_be_asked_alone() -> None:
    attack = mcr.option("attack", "fgsm", eps=0.1)
    probe = mcr.option("probe", "transfer", attack=attack)
    space = mcr.Subspace([network(1), network(2)], "linear", TRAIN)
    assert set(mcr.measure(space, TEST, {"transfer": probe}, at=3).summary()) == {"transfer"}


@pytest.mark.parametrize("method", ["portfolio", "path_point", "finetune", "prune", "scratch", "noise"])
def test_a_repair_is_chosen_on_held_out_images_alone(method: str) -> None:
    one, two = network(1), network(2)
    for seed, end in enumerate((one, two)):
        mcr.fit(end, TRAIN, seed=seed, **QUICK)
    before = copy.deepcopy(one), copy.deepcopy(two)
    found = mcr.repair(
        [one, two], TEST, method, steps=4, rates=[0.01, 0.1], held_out=0.25, batch_size=8, taken="chosen"
    )
    assert same(one, before[0])
    assert same(two, before[1])
    held = EvaluationBatches(TEST[0][24:], TEST[1][24:], 3, "channels_last")
    outputs = [log_probabilities(end.eval(), held) for end in (one, two)]
    after = log_probabilities(found.network, held)
    right = [float((x.argmax(1) == TEST[1][24:]).double().mean()) for x in (after, *outputs)]
    assert found.chosen["accuracy"] == right[0]
    assert found.chosen["lost"] == pytest.approx(max(right[1:]) - right[0])
    assert found.chosen["from_start"] == pytest.approx(float(jensen_shannon(outputs[0], after).mean()), abs=1e-6)
    assert found.chosen["from_end"] == pytest.approx(float(jensen_shannon(outputs[1], after).mean()), abs=1e-6)
    assert found.chosen in found.candidates
    assert not same(found.network, one)


@pytest.mark.parametrize("method", ["finetune", "path_point", "rebn"])
def test_the_chosen_repair_is_made_once_more_on_all_images(method: str) -> None:
    one, two = network(1), network(2)
    budget: dict[str, Any] = {"steps": 4, "held_out": 0.25, "batch_size": 8}
    found = mcr.repair([one, two], TEST, method, rates=[0.01, 0.1], **budget)
    other = mcr.repair([one, two], TEST, method, rates=[0.01, 0.1], taken="chosen", **budget)
    assert found.chosen == other.chosen
    assert other.taken is other.chosen
    assert set(found.taken) < set(found.chosen)
    assert not same(found.network, other.network)
    if method == "finetune":
        mcr.fit(one, TEST, lr=found.chosen["rate"], steps=4, batch_size=8)
        assert same(found.network, one)


def test_a_repair_on_all_images_has_none_to_be_watched_on() -> None:
    for settings in ({"keep": "best"}, {"patience": 2}):
        with pytest.raises(InputError, match="taken=chosen"):
            mcr.repair([network(1)], TEST, "finetune", **settings)


def test_a_repair_says_what_its_signals_say() -> None:
    one, two = network(1), network(2)
    found = mcr.repair([one, two], TEST, "finetune", steps=4, rates=[0.01, 0.1], held_out=0.25, batch_size=8)
    assert set(found.suspicion) == {"masks", "perturbations", "noise", "squares"}
    assert all(0 <= one["estimated_success"] <= 1 for one in found.candidates)
    again = mcr.repair(
        [one, two], TEST, "finetune", steps=4, rates=[0.01, 0.1], held_out=0.25, batch_size=8, fresh=network(5)
    )
    assert same(again.network, found.network) == (again.chosen["rate"] == found.chosen["rate"])
    for name, said in again.suspicion.items():
        assert said["suspect"] == found.suspicion[name]["suspect"]
        assert said["reference"] != found.suspicion[name]["reference"]


def test_a_wrong_file_is_refused_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    save_file(network(1).state_dict(), tmp_path / "net.safetensors")
    assert same(mcr.load(tmp_path / "net.safetensors", network(2)), network(1))
    with pytest.raises(InputError, match=r"lacks 0\.weight|differs in shape|unexpected"):
        mcr.load(tmp_path / "net.safetensors", nn.Sequential(nn.Linear(3, 3)))
    torch.save({"a": network(1).state_dict(), "b": network(3).state_dict()}, tmp_path / "two.pt")
    assert same(mcr.load(tmp_path / "two.pt", network(2)), network(1))
    assert same(mcr.load(tmp_path / "two.pt", network(2), key="b"), network(3))
    with pytest.raises(InputError, match="has no entry c: tensors lie under a, b"):
        mcr.load(tmp_path / "two.pt", network(2), key="c")
    (tmp_path / "bad.pt").write_bytes(b"cos\nmkdir\n(S'created'\ntR.")
    with pytest.raises(InputError, match=r"refused|run code"):
        mcr.load(tmp_path / "bad.pt", network(2))
    assert not (tmp_path / "created").exists()


def space(curve: str = "bezier", images: Any = TRAIN) -> mcr.Subspace:
    return mcr.Subspace([network(1), network(2)], curve, images)


def test_networks_that_are_asked_together_alone_have_a_table_a_figure_and_numbers() -> None:
    found = mcr.measure(space(), TEST, ["gradient_similarity"], at=3)
    assert [row["t"] for row in found.table.rows] == [0.0, 0.5, 1.0]
    value = found.summary()["gradient_similarity"]["clean"]
    assert str(found) == f"gradient similarity: clean {value:.3f}"
    assert found.plot("three networks").axes
    both = mcr.measure(space(), TEST, ["risk", "gradient_similarity"], at=3)
    assert str(both).splitlines()[-1] == str(found)
    assert both.table.metrics


LOADER = DataLoader(TensorDataset(TRAIN[0].float() / 255, TRAIN[1]), 16)
# A label that is none of the network's stands in a later batch.
LATE = DataLoader(TensorDataset(TRAIN[0].float() / 255, torch.cat([TRAIN[1][:-1], torch.tensor([7])])), 16)


def floats(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, 64 * 64).view(64, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: mcr.option("atack", "pgd"), "did you mean attack"),
        (lambda: mcr.option("attack", "pdg"), "did you mean pgd"),
        (lambda: mcr.option("attack", "pgd", epz=1), "takes no epz; did you mean eps"),
        (lambda: mcr.option("transform", "none"), "leave it out"),
        (lambda: mcr.option("probe", "attack_success"), "give backdoor="),
        (lambda: mcr.fit(network(1), TRAIN, epoch=3), "did you mean epochs"),
        (lambda: mcr.fit(network(1), TRAIN, epochs=0), "epochs=0 must be at least 1"),
        (lambda: mcr.fit(network(1), TRAIN, epochs=2, steps=3), "not in both"),
        (lambda: mcr.fit(network(1), TRAIN, objective="adverserial"), "did you mean adversarial"),
        (lambda: mcr.fit(network(1), TRAIN, objective="adversarial"), "give validation="),
        (lambda: mcr.fit(network(1), TRAIN, optimizer=torch.optim.SGD, lr=1.0), "has its own"),
        (lambda: mcr.fit(network(1), (floats(-1, 1), TRAIN[1])), r"from -1 to 1: .*mcr\.Normalized"),
        (lambda: mcr.fit(network(1), DataLoader(TensorDataset(floats(0, 9), TRAIN[1]), 64)), "from 0 to 9"),
        (lambda: mcr.fit(network(1), (TRAIN[0][:, :, :4], TRAIN[1])), "cannot take images 1x4x8"),
        (lambda: mcr.fit(network(1), (TRAIN[0], TRAIN[1][:9])), r"labels \(N,\) are needed"),
        (lambda: mcr.fit(network(1), (TRAIN[0], TRAIN[1].float())), "int64; these are float32"),
        (lambda: mcr.fit(network(1), (TRAIN[0], TRAIN[1] + 1)), "label 3 is none of the network's 3 classes"),
        (lambda: mcr.fit(space("linear"), TRAIN), "nothing to fit"),
        (lambda: mcr.fit(space(), TRAIN, memory_format="contiguous"), "no setting memory_format"),
        (lambda: mcr.fit("network", TRAIN), "no str"),
        (lambda: mcr.fit(network(1), TRAIN, lr=0), "lr=0 must be above 0"),
        (lambda: mcr.fit(network(1), TRAIN, min_accuracy_over_chance=0.5), "no setting min_accuracy_over_chance"),
        (
            lambda: mcr.Subspace([network(1), network(2)], "bezier", TRAIN, memory_format="c"),
            "channels_last or contiguous",
        ),
        (lambda: mcr.Subspace([network(1), network(2)], "bezier", TRAIN, precision="fp8"), "fp32, tf32 or bf16"),
        (lambda: mcr.Subspace([network(1), network(2)], "bezier", TRAIN, batchnorm_batch=0), "at least 1"),
        (lambda: mcr.measure(space(), TEST, ["risk"], batch_size=0), "batch_size=0 must be at least 1"),
        (lambda: mcr.fit(space(), TRAIN, optimizer=mcr.option("optimizer", "sgd")), "would act on control points"),
        (lambda: mcr.fit(space(), TRAIN, validation=TEST), "only where the objective attacks"),
        (lambda: mcr.fit(space(), TRAIN, patience=2), "only where the objective attacks"),
        (lambda: mcr.fit(network(1), TRAIN, keep="best"), "give validation="),
        (lambda: mcr.fit(network(1), LOADER, steps=9), "DataLoader has its own steps"),
        (
            lambda: mcr.fit(network(1), LOADER, augmentation=mcr.Augmentation(0, 0.5)),
            "its own augmentation: give epochs",
        ),
        (lambda: mcr.fit(network(1), LATE, epochs=1), "label 7 is none of the network's 3 classes"),
        (lambda: space(images=None), "give images="),
        (lambda: mcr.Subspace([network(1)], "bezier", TRAIN), "joins 2 networks, 1 "),
        (lambda: mcr.Subspace([network(1), nn.Linear(2, 2)], "bezier", TRAIN), "different architectures"),
        (lambda: mcr.Subspace([network(1), network(2)], "bezier", TRAIN, seeds=2), "did you mean seed"),
        (lambda: mcr.Subspace.of_run("nowhere"), "is it the folder of a run"),
        (lambda: space().at(1.5), "1.5"),
        (lambda: mcr.measure(space(), TEST, ["rsk"]), "did you mean risk"),
        (lambda: mcr.measure(space(), TEST, ["risk"], at=[0.2, 7]), "7"),
        (lambda: mcr.measure(space(), TEST, ["risk"], batchsize=3), "did you mean batch_size"),
        (lambda: mcr.repair([network(1)], TEST), "needs a second network"),
        (lambda: mcr.repair([Bare(), Bare()], TEST, "scratch", steps=1, rates=[0.1]), "give fresh="),
        (lambda: mcr.repair([network(1), network(2)], TEST, held_out=0), "a fifth"),
        (lambda: mcr.repair([network(1), network(2)], TEST, rate=[1]), "did you mean rates"),
        (lambda: mcr.dataset("digit"), "did you mean digits"),
    ],
)
def test_a_mistake_gives_one_line(call, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_face_is_complete_and_light() -> None:
    program = (
        "import sys, mcr; heavy = {'torch', 'hydra', 'pytorch_lightning', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; assert set(mcr.__all__) <= set(dir(mcr));"
        "assert [getattr(mcr, name) for name in mcr.__all__];"
        "import pytest\nwith pytest.raises(AttributeError): mcr.nothing"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_program_that_uses_hydra_itself_keeps_its_state(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()  # of another test
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        mcr.option("curve", "bezier", points=6)
        mcr.dataset("synthetic", images=20, image_size=8)
        with pytest.raises(InputError, match="no such folder"):
            cli.dispatch(["show", "--config-dir", "nowhere"])
        assert compose("mine").a == 1
    assert not GlobalHydra.instance().is_initialized()


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(mcr.__file__).parents[1] / "README.md").read_text()
    (lines,) = (block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "mcr.Subspace(" in block)
    namespace = {"a": network(1), "b": network(2), "train": TRAIN, "test": TEST}
    exec(lines.replace("epochs=20", "epochs=1"), namespace)
    assert (tmp_path / "path.png").is_file()
    assert namespace["middle"](TEST[0].float() / 255).shape == (32, 3)


def test_a_fit_goes_on_from_where_the_control_points_are() -> None:
    """Without a step to speak of, what was put there stays there."""
    path = mcr.Subspace([network(1), network(2)], "bezier", TRAIN)
    elsewhere = path.points[1] + 1
    path.set_inner_points([elsewhere])
    mcr.fit(path, TRAIN, optimizer="sgd", epochs=1, lr=1e-12)
    torch.testing.assert_close(path.points[1], elsewhere, rtol=0, atol=1e-6)
