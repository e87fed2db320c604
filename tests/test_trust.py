"""What runs when a command is given: nothing that lies beside it, nothing that a configuration names for others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mcr.errors import InputError
from mcr.store import build
from tests.processes import environment, mcr

NETS = """
from functools import partial
import subprocess

from torch import nn
from torchvision.models import resnet18


class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels):
        super().__init__(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


def small(num_classes, in_channels):
    return Net(num_classes, in_channels)


class Other:
    pass


PARTIAL = partial(Net, 2, 1)
"""
# Installed packages that mcr loads, and some that these would load if they were there.
SHADOWS = ("torch", "yaml", "numpy", "sklearn", "hydra", "rich", "wandb", "IPython", "tensorflow", "cupy", "foolbox")
REPAIR = (
    *("repair", "a.pt", "debug=default", "logger=none", "dataset=synthetic", "dataset.image_size=8"),
    *("dataset.channels=1", "dataset.classes=2", "dataset.images=80", "dataset.split.test=16", "runtime.threads=1"),
    *("architecture=mlp", "architecture.hidden=[4]", "training.min_accuracy_over_chance=0"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What came from a stranger: a network, and files that are called like packages."""
    desk = tmp_path / "desk"
    desk.mkdir()
    for name in SHADOWS:
        (desk / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    return desk


@pytest.mark.slow
@pytest.mark.parametrize("words", [("show",), ("list",), REPAIR], ids=lambda words: words[0])
def test_no_file_beside_the_user_runs(words, folder: Path, tmp_path: Path) -> None:
    from mcr.architectures.mlp import Mlp

    torch.save(Mlp(num_classes=2, in_channels=1, image_size=(8, 8), hidden=[4]).state_dict(), folder / "a.pt")
    command = [sys.executable, "-m", "mcr", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_a_network_beside_the_user_is_found_after_all_that_is_installed(folder: Path, tmp_path: Path) -> None:
    (folder / "my_trusted.py").write_text(NETS)
    words = [word for word in REPAIR[2:] if not word.startswith("architecture") and "training" not in word]
    for target in ("my_trusted.Net", "my_trusted.small"):
        done = mcr("train", *words, f"architecture._target_={target}", folder=folder)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("numpy.load", "a function of numpy"),
        ("joblib.load", "a function of joblib"),
        ("torch.load", "a function of torch"),
        ("torch.hub.load", "a function of torch"),
        ("pickle.loads", "is _pickle.loads, which is not of pickle"),
        ("os.system", "is posix.system, which is not of os"),
        ("builtins.eval", "a function of builtins"),
        ("subprocess.Popen", "no torch.nn.Module"),
        ("torch.optim.SGD", "no torch.nn.Module"),
        ("torch.os.system", "is posix.system, which is not of torch"),
        ("torch.nn", "is a module, no class or function"),
        ("mcr.store.identity.subprocess.getoutput", "is subprocess.getoutput, which is not of mcr"),
        ("mcr.weightspace.files.save", "nothing that a configuration names"),
        ("my_judged.subprocess.run", "is subprocess.run, which is not of my_judged"),
        ("my_judged.resnet18", "is torchvision.models.resnet.resnet18, which is not of my_judged"),
        ("my_judged.Other", "no torch.nn.Module"),
        ("my_judged.PARTIAL", "no class or function"),
    ],
)
def test_what_makes_a_network_is_judged_by_what_was_found(
    target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_judged.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_judged", raising=False)
    with pytest.raises(InputError, match=said) as refused:
        build.locate_network(target)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=said):
        build.network({"_target_": target}, {})


@pytest.mark.parametrize("target", ["torchvision.models.resnet18", "torch.nn.Linear", "mcr.architectures.mlp.Mlp"])
def test_networks_of_packages_are_allowed(target: str) -> None:
    assert callable(build.locate_network(target))
