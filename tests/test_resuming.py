"""Training goes on from what it left, begins anew from what is no checkpoint, and keeps to itself."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.errors import InputError
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.objective import Objective
from mcr.schedules.cosine import Cosine
from mcr.training.checkpoints import WholeFiles, usable
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import Fitted, _plugins, fit
from mcr.training.reweighted import ReweightedModule
from mcr.training.rewired import RewiredModule
from mcr.training.swa import SwaModule
from mcr.training.transformed import TransformedModule
from mcr.transforms.quantise import Quantise
from mcr.types import LabelledImages
from tests.conftest import TINY
from tests.processes import fresh

IMAGES = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3
TRAINING = TrainingBatches(IMAGES, LABELS, 8, Augmentation(1, 0.5), "contiguous", "seed")
WATCHED = EvaluationBatches(IMAGES, LABELS, 12, "contiguous")
EPOCHS = 3


class Flat:
    def factor(self, progress: float) -> float:
        return 1.0


FLAT = Flat()


class Interrupted(EndpointModule):
    """A small training that may be broken off at the beginning of an epoch."""

    error: BaseException = RuntimeError("interrupted")

    def __init__(self, at: int = EPOCHS, schedule: Any = FLAT) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        super().__init__(network, CrossEntropy(), optimizer, schedule, num_classes=3, seed="seed")
        self.at, self.seen = at, list[int]()

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.at:
            raise self.error
        self.seen.append(self.current_epoch)
        super().on_train_epoch_start()


def fitted(folder: Path, module: EndpointModule, **changes: Any) -> Fitted:
    usual: dict[str, Any] = {
        "label": "train end",
        "epochs": EPOCHS,
        "stop": changes.get("epochs", EPOCHS),
        "precision": "fp32",
        "keep": "last",
        "patience": 0,
        "watch": {"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05},
        "backend": "none",
        "runtime": {"accelerator": "cpu", "devices": 1, "strategy": "auto"},
        "loggers": [],
    }
    return fit(module, TRAINING, WATCHED, folder, **(usual | changes))


class Hostile:
    """Leaves a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def hostile(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "extra": Hostile(path.with_name("executed"))}, path)


def without(entry: str, path: Path) -> None:
    found = torch.load(path, weights_only=True)
    del found[entry]
    torch.save(found, path)


DAMAGES = {
    "torn": torn,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(5000)),
    "text": lambda path: path.write_text("no checkpoint\n" * 9),
    "a number": lambda path: torch.save(3, path),
    "nested lists": lambda path: torch.save({"state_dict": [[[]]]}, path),
    "without a state": lambda path: without("state_dict", path),
    "without a history": lambda path: without("callbacks", path),
    "hostile": hostile,
    "bare hostile pickle": lambda path: path.write_bytes(pickle.dumps(Hostile(path.with_name("executed")))),
}


def interrupted(folder: Path, keep: str) -> Path:
    with pytest.raises(RuntimeError, match="interrupted"):
        fitted(folder, Interrupted(at=2), keep=keep)
    return folder / "checkpoints"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), SystemExit("enough")], ids=repr)
def test_the_end_of_a_program_is_no_ctrl_c(error, tmp_path: Path) -> None:
    """Lightning turns the one into the other."""
    module = Interrupted(at=1)
    module.error = error
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(type(error)) as caught:
            fitted(tmp_path, module)
    finally:
        signal.signal(signal.SIGINT, handler)  # which Lightning ignores from the first Ctrl-C on
    assert type(caught.value) is type(error)
    assert caught.value.args == error.args


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_whole_checkpoint_is_gone_on_from(keep, tmp_path: Path, caplog) -> None:
    expected = fitted(tmp_path / "whole", whole := Interrupted(), keep=keep)
    interrupted(tmp_path / "broken", keep)
    assert fitted(tmp_path / "broken", module := Interrupted(), keep=keep) == expected
    assert module.seen == [2]
    assert torch.equal(module.network[1].weight, whole.network[1].weight)
    assert caplog.records == []


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize(("keep", "file"), [("last", "last"), ("best", "last"), ("best", "best")])
def test_what_is_no_checkpoint_is_removed_and_training_begins_anew(name, keep, file, tmp_path: Path, caplog) -> None:
    expected = fitted(tmp_path / "whole", whole := Interrupted(), keep=keep)
    place = interrupted(tmp_path / "broken", keep)
    DAMAGES[name](place / f"{file}.ckpt")
    with caplog.at_level(logging.WARNING, logger="mcr"):
        assert fitted(tmp_path / "broken", module := Interrupted(), keep=keep) == expected
    assert module.seen == [0, 1, 2]
    assert torch.equal(module.network[1].weight, whole.network[1].weight)
    (record,) = caplog.records
    assert f"{file}.ckpt cannot be used: removed, begun anew" in record.getMessage()
    assert not (place / "executed").exists()


def test_a_lost_best_epoch_begins_training_anew(tmp_path: Path, caplog) -> None:
    place = interrupted(tmp_path, "best")
    (place / "best.ckpt").unlink()
    fitted(tmp_path, module := Interrupted(), keep="best")
    assert module.seen == [0, 1, 2]
    assert "best.ckpt cannot be used" in caplog.text


def test_a_checkpoint_of_another_version_is_none(tmp_path: Path) -> None:
    place = interrupted(tmp_path, "last") / "last.ckpt"
    names = set(Interrupted().state_dict())
    assert usable(place, names)
    assert not usable(place, names | {"network.2.weight"})
    assert not usable(place, names - {"network.1.weight"})


class Overflowing(Interrupted):
    """Its weights stay finite, what is seen of it does not."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("validation/odd", float("inf"))


def test_a_history_that_ends_without_a_finite_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train end diverged: validation/odd is inf after .*learning rate"):
        fitted(tmp_path, Overflowing())


# ------------------------------------------------------------------------------------------------- ended early


class Telling(CrossEntropy):
    """Remembers how far it was told that training is."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def at(self, progress: float) -> Objective:
        self.told.append(progress)
        return self


def long(at: int) -> Interrupted:
    module = Interrupted(at, Cosine(final_factor=0.0))
    module.objective = Telling()
    return module


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_training_that_ends_early_is_bit_for_bit_the_beginning_of_the_whole_one(stop, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        fitted(tmp_path / "whole", whole := long(at=stop), epochs=5)
    early = fitted(tmp_path / "early", module := long(at=5), epochs=5, stop=stop)
    assert (len(early.rows), early.stopped) == (stop, "")
    assert module.objective.told == whole.objective.told == [(step + 0.5) / 15 for step in range(3 * stop)]
    ours, theirs = state(tmp_path / "early"), state(tmp_path / "whole")
    assert early.rows == theirs["callbacks"]["History"]["rows"]
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor)
        assert torch.equal(module.state_dict()[name], tensor)
    # It can be gone on with, and then is the whole.
    expected = fitted(tmp_path / "undisturbed", undisturbed := long(at=5), epochs=5)
    assert fitted(tmp_path / "early", further := long(at=5), epochs=5) == expected
    assert further.seen == list(range(stop, 5))
    assert torch.equal(further.network[1].weight, undisturbed.network[1].weight)


@pytest.mark.parametrize("stop", [0, -1, 4])
def test_a_training_ends_within_its_length(stop, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"train end: stop={stop} .* from 1 to 3"):
        fitted(tmp_path, Interrupted(), stop=stop)


# --------------------------------------------------------------------------------------------- published whole


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    steps = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def noted(*args: Any, name: str = name, call: Any = call) -> Any:
            steps.append((name, (tmp_path / "a" / "last.ckpt").exists()))
            return call(*args)

        monkeypatch.setattr(os, name, noted)
    for _ in range(2):
        WholeFiles().save_checkpoint({"number": 1}, tmp_path / "a" / "last.ckpt")
    assert steps[:3] == [("fsync", False), ("replace", False), ("fsync", True)]
    assert [name for name, _ in steps[3:]] == ["fsync", "replace", "fsync"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_earlier_checkpoint(error, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"number": 1}, place)
    before = place.read_bytes()

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        WholeFiles().save_checkpoint({"number": 2}, place)
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    (tmp_path / ".partial-last.ckpt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        WholeFiles().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "last.ckpt")


def test_training_writes_nothing_to_the_temporary_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    fitted(tmp_path / "run", Interrupted(), keep="best")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


# ------------------------------------------------------------------------------------------------ a cluster's words

ALLOCATIONS = {
    "a shell of an allocation": "SLURM_NTASKS=4 SLURM_JOB_NAME=train",
    "a task of srun": "SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_JOB_NAME=train SLURM_JOB_ID=7 SLURM_PROCID=1 "
    "SLURM_LOCALID=1 SLURM_NODEID=0 SLURM_NODELIST=node1",
    "leftovers of torchrun": "RANK=1 LOCAL_RANK=1 WORLD_SIZE=2 GROUP_RANK=0 LOCAL_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=7 "
    "MASTER_ADDR=nowhere MASTER_PORT=1",
}


def variables(name: str) -> dict[str, str]:
    return dict(word.split("=") for word in ALLOCATIONS[name].split())


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_a_single_process_is_not_taken_for_a_part_of_something(name, tmp_path: Path, monkeypatch) -> None:
    expected = fitted(tmp_path / "whole", Interrupted())
    for variable, value in variables(name).items():
        monkeypatch.setenv(variable, value)
    assert fitted(tmp_path / "inside", Interrupted()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_a_command_in_an_allocation_is_one_process(name, tmp_path: Path) -> None:
    """From the start on, when Lightning is imported; the metrics reach the logger."""
    words = [*TINY, "logger=csv", "paths.root=tmp"]
    done = fresh("train", *words, folder=tmp_path, **variables(name))
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "tmp" / "store" / "train").glob("[!.]*/network.safetensors"))) == 2
    assert len(list(tmp_path.glob("tmp/runs/*/csv/*/metrics.csv"))) == 2


@pytest.mark.slow
def test_spawned_processes_are_this_command_s_own(tmp_path: Path, monkeypatch) -> None:
    for variable, value in variables("a shell of an allocation").items():
        monkeypatch.setenv(variable, value)
    runtime = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn", "threads": 1}
    rows = fitted(tmp_path, copy.deepcopy(Interrupted()), runtime=runtime, epochs=1).rows
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("devices", "strategy", "own"),
    [
        *[
            (1, "auto", True),
            ([3], "auto", True),
            (1, "ddp", True),
            (2, "ddp_spawn", True),
            ([0, 3], "ddp_spawn", True),
        ],
        *[(2, "ddp", False), ([0, 1], "fsdp", False)],  # their processes may come from the cluster
    ],
)
def test_only_processes_of_our_own_are_kept_from_the_cluster(devices, strategy, own) -> None:
    kinds = {type(plugin) for plugin in _plugins({"devices": devices, "strategy": strategy})}
    assert (LightningEnvironment in kinds) == own


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


class Unattacked(CrossEntropy):
    """Its attack, of which some trainings are watched, changes nothing."""

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, draw: torch.Generator) -> Tensor:
        return images


# What some trainings know beside a network: free weights, which weights are there, weights of images, an average.
OWN_STATE: dict[str, tuple[type[EndpointModule], dict[str, Any]]] = {
    "quantised": (TransformedModule, {"transform": Quantise(3, 0.5, 1.0, 100.0)}),
    "dnr": (
        RewiredModule,
        {
            "density": 0.4,
            "rewired": 0.5,
            "unit": "weight",
            "least": 1,
            "draw": "first",
            "replicate": 0,
            "validation_images": 4,
        },
    ),
    "reweighted": (
        ReweightedModule,
        {"features": 4, "sharpness": 2.0, "r": 1.0, "rate": 50.0, "similarity_rate": 50.0},
    ),
    "swa": (SwaModule, {"begin": 0.3, "every": 1}),
}


@pytest.mark.parametrize("name", OWN_STATE)
def test_what_a_training_knows_beside_its_network_goes_on_too(name, tmp_path: Path) -> None:
    kind, options = OWN_STATE[name]
    trusted = {"trusted": LabelledImages(IMAGES[:6], LABELS[:6])} if name == "reweighted" else {}

    def made(at: int) -> EndpointModule:
        class Broken(kind):  # type: ignore[misc,valid-type]
            def on_train_epoch_start(self) -> None:
                if self.current_epoch == at:
                    raise RuntimeError("interrupted")
                super().on_train_epoch_start()

        optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        return Broken(
            **options,
            **trusted,
            network=_network(),
            objective=Unattacked(),
            optimizer=optimizer,
            schedule=FLAT,
            num_classes=3,
            seed="seed",
        )

    watch = {"collapse": 0.5, "learned": 1.0, "epochs": 2, "clean_tolerance": 0.05}  # no collapse of random labels
    usual: dict[str, Any] = {"epochs": EPOCHS + 1, "watch": watch}
    expected = fitted(tmp_path / "whole", whole := made(EPOCHS + 1), **usual)
    with pytest.raises(RuntimeError, match="interrupted"):
        fitted(tmp_path / "broken", made(2), **usual)
    module = made(EPOCHS + 1)
    assert fitted(tmp_path / "broken", module, **usual) == expected
    for one, other in zip(module.state_dict().items(), whole.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(torch.as_tensor(one[1]), torch.as_tensor(other[1])), one[0]
