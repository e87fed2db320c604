"""``mcr repair`` as its users run it: files in, one cleaned file and a card out; hostile input refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mcr.app import cli
from mcr.digests import file_digest
from mcr.errors import InputError
from tests.processes import mcr

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, num_classes)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))
"""
WORDS = (
    *("repair", "architecture._target_=my_nets.Net", "normalization=fixed", "dataset=imagefolder_clean"),
    *(
        "dataset.root=clean",
        "dataset.channels=1",
        "logger=none",
        "runtime.threads=1",
        "training.min_accuracy_over_chance=0",
    ),
    *(
        "repair.budget.steps=4",
        "repair.budget.rates=[0.05]",
        "repair.budget.batch_size=8",
        "repair=path_point",
        "selection=farthest",
        "repair.grid=5",
        "repair.budget.held_out=0.5",
    ),
)


def network(classes: int = 2) -> nn.Module:
    names: dict = {}
    exec(NET, names)
    net: nn.Module = names["Net"](classes, 1)
    return net


def state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return network().state_dict()


def draw_images(folder: Path, classes: int = 2, count: int = 8) -> None:
    draw = np.random.default_rng(0)
    for label in range(classes):
        place = folder / f"class{label}"
        place.mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(draw.normal(60 + 130 * label, 20, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{index}.png")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(NET)
    draw_images(tmp_path / "clean")
    for seed, name in enumerate(("a.pt", "b.pt")):
        torch.save(state(seed), tmp_path / name)
    return tmp_path


class Explosive:
    """Creates a folder when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("created",))


def spoil(desk: Path, kind: str) -> None:
    """Put one hostile thing on the desk."""
    path, good = desk / "b.pt", state(1)
    if kind == "pickle of code":
        path.write_bytes(pickle.dumps(Explosive()))
    elif kind == "torch file of code":
        torch.save({"state_dict": Explosive(), "hook": Explosive()}, path)
    elif kind == "key missing":
        torch.save({name: tensor for name, tensor in good.items() if name != "head.bias"}, path)
    elif kind == "key unexpected":
        torch.save({**good, "tail.bias": torch.zeros(2)}, path)
    elif kind == "wrong shape":
        torch.save({**good, "head.weight": torch.zeros(3, 4)}, path)
    elif kind == "huge shape over a tiny storage":
        torch.save({**good, "head.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    elif kind in ("nan", "inf"):
        torch.save({**good, "head.bias": torch.full((2,), float(kind))}, path)
    elif kind == "truncated archive":
        path.write_bytes(path.read_bytes()[:-400])
    elif kind == "truncated old format":
        torch.save(good, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:-150])
    elif kind == "sparse weights":
        torch.save({**good, "head.weight": good["head.weight"].to_sparse()}, path)
    elif kind == "whole numbers for weights":
        torch.save({**good, "head.weight": good["head.weight"].long()}, path)
    elif kind == "truncated safetensors":
        save_file(good, desk / "whole.safetensors")
        path.write_bytes((desk / "whole.safetensors").read_bytes()[:-16])
        path.rename(desk / "b.safetensors")
        (desk / "whole.safetensors").unlink()
    elif kind == "archive that unpacks to more":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(3_000_000))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "empty clean folder":
        for image in (desk / "clean").glob("*/*"):
            image.unlink()
    elif kind == "no class folders":
        for image in (desk / "clean").glob("*/*"):
            image.unlink()
        for folder in (desk / "clean").iterdir():
            folder.rmdir()
    elif kind == "single class":
        for image in (desk / "clean" / "class1").glob("*"):
            image.unlink()
        (desk / "clean" / "class1").rmdir()
    elif kind == "unreadable image":
        (desk / "clean" / "class1" / "3.png").write_bytes(b"\x89PNG no image")
    elif kind == "other number of classes":
        draw_images(desk / "more", classes=3)
        (desk / "more" / "class2").rename(desk / "clean" / "class2")


HOSTILE = [
    ("pickle of code", "b.pt needs code to run"),
    ("torch file of code", r"b.pt holds no state dict \(left unread: state_dict \(posix.mkdir\)"),
    ("key missing", r"b.pt lacks head\.bias"),
    ("key unexpected", r"b.pt has the unexpected tail\.bias"),
    ("wrong shape", r"head\.weight differs in shape: \(3, 4\) in the file, \(2, 4\)"),
    ("huge shape over a tiny storage", r"head\.weight differs in shape"),
    ("nan", r"head\.bias holds NaN or infinite"),
    ("inf", r"head\.bias holds NaN or infinite"),
    ("larger than the limit", r"holds .* MB, the limit is 0.001 MB"),
    ("archive that unpacks to more", r"holds 3.0 MB, the limit is 2 MB"),
    ("truncated archive", "b.pt is damaged"),
    ("truncated old format", "b.pt is damaged"),
    ("sparse weights", r"head\.weight is no plain dense tensor"),
    ("whole numbers for weights", r"head\.weight differs in type: int64 in the file, float32"),
    ("truncated safetensors", "no whole safetensors"),
    ("folder", "b.pt is a folder: name the file"),
    ("empty clean folder", "class0 holds no image"),
    ("no class folders", "clean has 0 class folders; at least two"),
    ("single class", "clean has 1 class folders; at least two"),
    ("unreadable image", "3.png is no readable image"),
    (
        "other number of classes",
        r"head\.weight differs in shape: \(2, 4\) in the file, \(3, 4\) in the network: it tells 2 classes apart, "
        r"and the data have 3; dataset\.classes=",
    ),
    ("missing file", "there is no file c.pt"),
    ("three files", "one or two networks, not 3"),
]


# Refused by the program itself; all others by the function that it calls, which saves a start of Python.
AS_PROCESSES = ("torch file of code", "truncated archive", "empty clean folder", "missing file")


def refusal(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What ``mcr`` says before it exits with 2, asked in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    with pytest.raises(InputError) as caught:
        cli.dispatch(words)
    return f"mcr: {caught.value}"


@pytest.mark.parametrize(("kind", "expected"), HOSTILE, ids=[kind for kind, _ in HOSTILE])
def test_hostile_input_is_refused_in_one_line_and_nothing_is_written_or_run(
    kind: str, expected: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(desk, kind)
    files = ["a.pt", "b.safetensors" if (desk / "b.safetensors").exists() else "b.pt"]
    files = {"missing file": ["a.pt", "c.pt"], "three files": ["a.pt", "b.pt", "a.pt"]}.get(kind, files)
    limits = {"larger than the limit": "0.001", "archive that unpacks to more": "2"}
    words = [f"endpoints.end.most_megabytes={limits[kind]}"] if kind in limits else []
    before = sorted(path for path in desk.rglob("*") if "__pycache__" not in path.parts)
    if kind in AS_PROCESSES:
        done = mcr(*WORDS, *words, *files, folder=desk)
        assert done.returncode == 2, done.stderr
        line = done.stderr.strip()
    else:
        line = refusal([*WORDS, *words, *files], desk, monkeypatch)
    assert line.startswith("mcr: ")
    assert "\n" not in line
    assert re.search(expected, line), line
    assert sorted(path for path in desk.rglob("*") if "__pycache__" not in path.parts) == before


def run_folder(desk: Path) -> Path:
    return sorted((desk / "multirun" / "runs").iterdir())[-1]


@pytest.mark.parametrize("form", ["bare", "one of two, without counters", "half precision", "safetensors"])
def test_the_cleaned_file_has_the_keys_shapes_and_types_of_the_first(form: str, desk: Path) -> None:
    given = state(0)
    file = "a.pt"
    if form == "one of two, without counters":
        given = {f"module.{name}": tensor for name, tensor in given.items() if "num_batches" not in name}
        torch.save({"model_ema": given, "net": given, "epoch": 3, "hook": Explosive()}, desk / file)
    elif form == "half precision":
        given = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in given.items()}
        torch.save(given, desk / file)
    elif form == "safetensors":
        file = "a.safetensors"
        save_file(given, desk / file)
    done = mcr(*WORDS, file, "b.pt", folder=desk)
    assert done.returncode == 0, done.stderr
    cleaned = load_file(run_folder(desk) / "cleaned.safetensors")
    assert {n: (t.shape, t.dtype) for n, t in cleaned.items()} == {n: (t.shape, t.dtype) for n, t in given.items()}
    if form in ("bare", "safetensors"):
        net = network()
        net.load_state_dict(cleaned, strict=True)
    card = json.loads((run_folder(desk) / "card.json").read_text())
    assert card["sha256"]["start"] == file_digest(str(desk / file))
    assert card["sha256"]["end"] == file_digest(str(desk / "b.pt"))
    assert card["sha256"]["cleaned"] == file_digest(str(run_folder(desk) / "cleaned.safetensors"))
    assert 0 < card["chosen"]["t"] < 1
    if form == "one of two, without counters":
        lines = [
            "read: net.module",
            "would fit too, not read: model_ema.module",
            "not read, objects: hook (posix.mkdir)",
        ]
        assert card["read"] == {"start": lines}
        assert "; ".join(lines) in (run_folder(desk) / "card.md").read_text()
        assert all(line in (run_folder(desk) / "mcr.log").read_text() for line in lines)
        assert not (desk / "created").exists()


def test_a_name_with_an_equals_sign_is_a_file(desk: Path) -> None:
    """Lightning's own names have them."""
    (desk / "a.pt").rename(desk / "epoch=1-step=2.ckpt")
    done = mcr(*WORDS, "epoch=1-step=2.ckpt", "b.pt", folder=desk)
    assert done.returncode == 0, done.stderr
    assert (run_folder(desk) / "cleaned.safetensors").is_file()


@pytest.fixture
def repaired(desk: Path) -> Path:
    done = mcr(*WORDS, "a.pt", folder=desk)
    assert done.returncode == 0, done.stderr
    return desk


def test_a_run_is_signed_and_verified_as_the_documentation_says(repaired: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (repaired / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (repaired / "key.pub").write_bytes(key.public_key().public_bytes(*public))
    lines = re.findall(r"^model_signing .*", (Path(__file__).parents[1] / "docs" / "repair.md").read_text(), re.M)

    def says(line: str) -> int:
        program, *words = line.replace("TIME", run_folder(repaired).name).split()
        return subprocess.run([Path(sys.executable).with_name(program), *words], cwd=repaired, check=False).returncode

    assert [says(line) for line in lines] == [0, 0]
    cleaned = run_folder(repaired) / "cleaned.safetensors"
    content = bytearray(cleaned.read_bytes())
    content[-1] ^= 1
    cleaned.write_bytes(content)
    assert says(lines[1]) != 0


def test_one_network_is_repaired_with_a_permuted_copy_and_the_card_warns(repaired: Path) -> None:
    card = json.loads((run_folder(repaired) / "card.json").read_text())
    assert card["settings"]["one_model"]
    assert any("made from the first" in line for line in card["warnings"])
    assert any("no trigger is known" in line for line in card["warnings"])


def test_a_network_that_guesses_is_no_starting_point(desk: Path) -> None:
    """The usual cause is another order of classes, or another normalisation: no path mends that."""
    for name in ("a.pt", "b.pt"):  # the first class for every image, half of them wrong
        torch.save({**state(0), "head.weight": torch.zeros(2, 4), "head.bias": torch.tensor([1.0, 0.0])}, desk / name)
    done = mcr(*WORDS, "training.min_accuracy_over_chance=1.95", "a.pt", "b.pt", folder=desk)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "class order class0, class1" in last
    assert "normalization=" in last
    assert not list(desk.rglob("cleaned.safetensors"))


def test_what_chooses_the_repair_cannot_see_the_trigger(config, tmp_path: Path) -> None:
    """With networks from files, the key of the choice is the same whatever trigger the card looks for."""
    from mcr.plans import pipeline

    torch.save(state(0), tmp_path / "a.pt")
    ends = [f"endpoint@endpoints.{role}=checkpoint" for role in ("start", "end")]
    ends += [f"endpoints.{role}.path={tmp_path / 'a.pt'}" for role in ("start", "end")]
    cards = {}
    for backdoor in ("none", "badnets", "blended"):
        cfg = config(*ends, f"backdoor={backdoor}", "architecture=small_cnn", "architecture.hidden=8") | {
            "verb": "repair"
        }
        cards[backdoor] = pipeline.plan(cfg)["repair"][0]
    assert len({card.needs["choose"].key for card in cards.values()}) == 1
    assert len({card.key for card in cards.values()}) == 3
    words = ["evaluation.test_images=7", "architecture=small_cnn", "architecture.hidden=8"]
    other = pipeline.plan(config(*ends, *words) | {"verb": "repair"})
    assert other["repair"][0].needs["choose"].key == cards["none"].needs["choose"].key


CLASS = """
from torch import nn


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.mark.slow
def test_two_backdoored_networks_of_a_users_own_class_are_repaired_on_digits(tmp_path: Path) -> None:
    """The promise of the command, on real data: the backdoor goes, the accuracy stays, t never saw the trigger."""
    (tmp_path / "own_nets.py").write_text(CLASS)
    common = [
        *("architecture._target_=own_nets.Own", "dataset=digits", "dataset.split.clean=250", "logger=none"),
        *("backdoor=badnets", "backdoor.size=2", "backdoor.row=-3", "backdoor.column=-3", "runtime.threads=1"),
        "normalization=fixed",
    ]
    done = mcr("train", *common, "ends=backdoored", "training.epochs=30", folder=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    names: dict = {}
    exec(CLASS, names)
    for role, name in (("start", "a.pt"), ("end", "b.pt")):
        net = names["Own"]()
        made = run_folder(tmp_path) / "stages" / f"poison-train-{role}"
        net.load_state_dict(load_file(made / "network.safetensors"), strict=True)
        torch.save(net.state_dict(), tmp_path / name)
    words = (
        "repair.budget.steps=1000",
        "repair.budget.rates=[0.1]",
        "repair.budget.batch_size=64",
        "card.reactivation.images=0",
    )
    done = mcr("repair", "a.pt", "b.pt", *common, *words, folder=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    names["Own"]().load_state_dict(load_file(run_folder(tmp_path) / "cleaned.safetensors"), strict=True)
    metrics = json.loads((run_folder(tmp_path) / "card.json").read_text())["metrics"]
    assert min(metrics["attack_success"]["start"], metrics["attack_success"]["end"]) > 0.9
    assert metrics["attack_success"]["after"] < 0.1
    assert metrics["clean_accuracy"]["lost"] <= 0.05


@pytest.mark.slow
def test_repairs_side_by_side_end_in_one_table(tmp_path: Path) -> None:
    """Every method from the command line, over replicates."""
    words = ["dataset=synthetic", "dataset.image_size=8", "dataset.channels=1", "dataset.images=200", "debug=default"]
    words += ["architecture=small_cnn", "architecture.hidden=8", "ends=backdoored", "logger=none", "runtime.threads=1"]
    methods = "path_point,finetune,scratch,prune,noise"
    done = mcr("repair", "-m", *words, f"repair={methods}", "replicate=0,1", folder=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    text = (sweep / "report.md").read_text()
    # One epoch teaches nothing, and plants no backdoor: every row is marked, and a note below says why.
    assert all(f"| {name.replace('_', ' ')} † |" in re.sub(" +", " ", text) for name in methods.split(","))
    assert "† path_point, N = 16: start learned hardly anything: clean accuracy" in text
    rows = (sweep / "repairs.csv").read_text().splitlines()
    assert len(rows) == 1 + len(methods.split(","))
    assert (sweep / "figure.png").is_file()
    for method in methods.split(","):
        assert re.search(rf"^{method} +\d+ +2 ", done.stdout, flags=re.M), done.stdout
