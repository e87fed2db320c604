"""Result files of backdoor benchmarks: a state dict among poisoned images and records, read and repaired as it is.

Their form is that of BackdoorBench's attack_result.pt (Wu et al. 2022), in its first version (tensors of images) and in
its second one (PIL images or paths, and NumPy arrays of numbers).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import mcr
from mcr.app import cli
from mcr.errors import InputError
from tests.test_repair_command import WORDS, Explosive, draw_images

# Names of its own, as those of preactresnet18 are, and arguments beside the number of classes.
CLASS = """
from torch import nn


class Pre(nn.Module):
    def __init__(self, num_classes=10, planes=(3, 4)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, planes[0], 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(nn.BatchNorm2d(planes[0]), nn.ReLU(), nn.Conv2d(planes[0], planes[1], 3))
        self.linear = nn.Linear(planes[1], num_classes)

    def forward(self, images):
        return self.linear(self.layer1(self.conv1(images)).mean((2, 3)))


def pre18(num_classes):
    return Pre(num_classes, (3, 4))
"""


def made(seed: int) -> torch.nn.Module:
    names: dict[str, Any] = {}
    exec(CLASS, names)
    torch.manual_seed(seed)
    network: torch.nn.Module = names["pre18"](2)
    return network


def container(kind: str, count: int = 3) -> dict[str, Any]:
    """What the benchmark keeps of a poisoned set."""
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(count)]
    paths = [{"path": f"./record/bd_train/1/{number}.png", "other_info": [0, 1]} for number in range(count)]
    records: dict[str, list] = {"images": [(image, 0, 1) for image in images], "paths": paths}
    data = dict(zip(np.arange(count), records[kind], strict=True))  # numbers of NumPy's own
    place = None if kind == "images" else "./record"
    return {
        "bd_data_container": {"save_folder_path": place, "data_dict": data, "save_file_format": ".png"},
        "getitem_all": True,
        "getitem_all_switch": False,
        "original_index_array": np.arange(count),
        "poison_indicator": np.ones(count),
        "save_folder_path": place,
    }


def tensors(count: int = 3) -> dict[str, Any]:
    """The same in the first version."""
    images, labels = torch.rand(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64)
    return {"x": images, "y": labels, "original_index": np.arange(count)}


SETS: dict[str, tuple[Any, Any]] = {
    "images": (container("images"), container("images")),
    "paths": (container("paths"), container("paths")),
    "tensors": (tensors(), tensors()),
    "no training set": (None, container("paths")),
    "hostile": ({**container("paths"), "hook": Explosive()}, [Explosive()]),
}


def result(path: Path, kind: str, state: dict[str, Tensor], new: bool = True) -> Path:
    """Writes an attack_result.pt."""
    train, test = SETS[kind]
    found = {"model_name": "preactresnet18", "num_classes": 2, "model": state, "data_path": "./data/cifar10"}
    found |= {"img_size": (8, 8, 1), "clean_data": "cifar10", "bd_train": train, "bd_test": test}
    torch.save(found, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("kind", SETS)
def test_the_network_is_read_whatever_lies_beside_it(
    kind: str, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = made(0).state_dict()
    path = result(tmp_path / "attack_result.pt", kind, wanted, new)
    # torch's own safe way refuses all of them: for a number of NumPy's, an image, or a hook alike.
    with pytest.raises(Exception, match="Unsupported"):
        torch.load(path, weights_only=True)
    network = mcr.load(path, made(1))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())
    assert not (tmp_path / "created").exists()


def test_a_result_without_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "attack_result.pt"
    torch.save({"model_name": "vgg", "model": Explosive(), "bd_test": container("paths")}, path)
    with pytest.raises(InputError, match=r"holds no state dict \(left unread: model \(posix\.mkdir\)") as caught:
        mcr.load(path, made(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["bench_nets.Pre", "bench_nets.pre18"], ids=["class", "function"])
def test_it_is_repaired_by_a_network_s_import_path(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench_nets.py").write_text(CLASS)
    draw_images(tmp_path / "clean")
    for seed, name in enumerate(("a.pt", "b.pt")):
        result(tmp_path / name, "images" if seed else "hostile", made(seed).state_dict())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "bench_nets", raising=False)
    words = [word for word in WORDS if not word.startswith("architecture")]
    assert cli.dispatch([*words, f"architecture._target_={target}", "a.pt", "b.pt", "hydra.run.dir=run"]) == 0
    cleaned = load_file(tmp_path / "run" / "cleaned.safetensors")
    made(2).load_state_dict(cleaned, strict=True)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["read"]["start"][0] == "read: model"
    assert any("bd_train.hook (posix.mkdir)" in line for line in card["read"]["start"])
    assert "read: model" in card["read"]["end"]
    assert not os.path.lexists(tmp_path / "created")


def test_the_library_repairs_what_it_has_loaded(tmp_path: Path) -> None:
    ends = [mcr.load(result(tmp_path / f"{seed}.pt", "tensors", made(seed).state_dict()), made(7)) for seed in (0, 1)]
    images = torch.cat([torch.full((8, 1, 8, 8), 0.2), torch.full((8, 1, 8, 8), 0.8)]) + torch.rand(16, 1, 8, 8) / 9
    labels = torch.arange(2).repeat_interleave(8)
    found = mcr.repair(ends, (images, labels), "finetune", selection="farthest", steps=2, batch_size=4, rates=[0.05])
    assert found.network.state_dict().keys() == ends[0].state_dict().keys()
