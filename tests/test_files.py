"""Model files are hostile until loaded safely."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mcr.errors import InputError
from mcr.weightspace import files

LIMIT = 10.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


class Explosive:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("nest", [None, *files.NESTS])
@pytest.mark.parametrize("prefix", ["", "module.", "network.", "_orig_mod.module."])
def test_usual_forms_of_a_state_dict_load(tmp_path: Path, nest, prefix) -> None:
    state = {prefix + name: tensor for name, tensor in network().state_dict().items()}
    path = tmp_path / "model.pt"
    torch.save({nest: state, "epoch": 3} if nest else state, path)
    target = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    files.fit_into(target, files.load_foreign(path, LIMIT), path)
    assert all(torch.equal(a, b) for a, b in zip(target.state_dict().values(), state.values(), strict=True))


def test_safetensors_load(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(network().state_dict(), path)
    files.fit_into(network(), files.load_foreign(path, LIMIT), path)


def hostile(tmp_path: Path, kind: str) -> Path:
    path, mark = tmp_path / "model.pt", tmp_path / "created"
    state = network().state_dict()
    if kind == "pickle of code":
        path.write_bytes(pickle.dumps(Explosive(mark)))
    elif kind == "torch file of code":
        torch.save({"state_dict": Explosive(mark)}, path)
    elif kind == "whole module":
        torch.save(network(), path)
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut short":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "zip of something else":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "hello")
    elif kind == "no tensors":
        torch.save({"epoch": 3}, path)
    elif kind == "damaged safetensors":
        path = tmp_path / "model.safetensors"
        path.write_bytes(b"\xff" * 64)
    elif kind == "missing":
        pass
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pickle of code", "refused"),
        ("torch file of code", "refused"),
        ("whole module", "refused"),
        ("text", "refused"),
        ("empty", "damaged|refused"),
        ("cut short", "damaged|refused"),
        ("zip of something else", "damaged|refused"),
        ("no tensors", "no state dict"),
        ("damaged safetensors", "no whole safetensors"),
        ("missing", "cannot read"),
    ],
)
def test_hostile_files_are_refused_in_one_line_and_run_nothing(tmp_path: Path, kind: str, words: str) -> None:
    path = hostile(tmp_path, kind)
    with pytest.raises(InputError, match=words) as caught:
        files.load_foreign(path, LIMIT)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("2.bias"), r"lacks 2\.bias"),
        (lambda s: s.update({"3.bias": torch.zeros(2)}), r"unexpected 3\.bias"),
        (lambda s: s.update({"0.weight": torch.zeros(3, 5)}), r"0\.weight differs in shape: \(3, 5\)"),
        (lambda s: s["0.bias"].fill_(float("nan")), r"0\.bias holds NaN"),
        (lambda s: s["0.bias"].fill_(float("inf")), r"0\.bias holds NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, words) -> None:
    state, target = network().state_dict(), network()
    change(state)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    target[0].weight.data.add_(1)
    with pytest.raises(InputError, match=words):
        files.fit_into(network(), state, Path("model.pt"))
    assert before.keys() == target.state_dict().keys()


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_statistics_of_batchnorm_that_are_no_numbers_are_refused_by_name(name: str, value: str) -> None:
    state = nn.Sequential(nn.BatchNorm2d(2)).state_dict()
    state[f"0.{name}"][1] = float(value)
    with pytest.raises(InputError, match=rf"0\.{name} holds NaN or infinite"):
        files.fit_into(nn.Sequential(nn.BatchNorm2d(2)), state, Path("model.pt"))


def test_saving_tied_weights_keeps_every_name(tmp_path: Path) -> None:
    first = nn.Linear(3, 3)
    tied = nn.Sequential(first, first)
    files.save(tied.state_dict(), tmp_path / "w.safetensors")
    loaded = files.load(tmp_path / "w.safetensors")
    assert set(loaded) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    tied.load_state_dict(loaded, strict=True)
