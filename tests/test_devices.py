"""One run on several devices: processes share a batch and give what one gives; devices are checked at the border.

The processes are CPU ones (gloo). No GPU is needed, and none is tried. Two tests start processes, two each: a dozen CPU
seconds for each pair, nearly all of it imports.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from mcr.app import run
from mcr.attacks.pgd import Pgd
from mcr.curves.bezier import Bezier
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.numerics.precision import autocast
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.objective import Objective
from mcr.objectives.trades import Trades
from mcr.plans import pipeline
from mcr.probes.answers import Answers
from mcr.sampling.uniform import Uniform
from mcr.schedules.cosine import Cosine
from mcr.stages import measure, spread
from mcr.stages.context import Context
from mcr.training.adversarial import AdversarialModule
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import fit
from mcr.training.history import Row
from mcr.training.subspace import SubspaceModule
from mcr.types import Batch
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import control_points
from tests.conftest import TINY

PROCESSES = 2
DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (46, 1, 8, 8), dtype=torch.uint8, generator=DRAW)
LABELS = torch.randint(3, (46,), generator=DRAW)
ODD, EVEN = 15, 16  # images of a batch: 7 and 8, and 8 and 8 in the processes
PGD = Pgd(eps=0.5, step_size=0.2, steps=2, norm="l2", start="random", restarts=2)


def network(norm: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm(), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3))


def common(objective: Objective) -> dict[str, Any]:
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    return {"objective": objective, "optimizer": optimizer, "schedule": Cosine(0.1), "num_classes": 3, "seed": "seed"}


def endpoint(norm: Callable[[], nn.Module], objective: Objective) -> EndpointModule:
    return EndpointModule(network(norm), **common(objective))


def robust(norm: Callable[[], nn.Module], objective: Objective) -> EndpointModule:
    return AdversarialModule(ema_decay=0.9, validation_images=9, network=network(norm), **common(objective))


def curve(norm: Callable[[], nn.Module], objective: Objective) -> EndpointModule:
    middle = network(norm)
    layout = Layout.of(middle, "contiguous")
    start = layout.pack(middle.state_dict())
    ends = [start, start + 0.1 * torch.randn(start.shape, generator=torch.Generator().manual_seed(2))]
    return SubspaceModule(
        curve=Bezier(3),
        layout=layout,
        points=control_points(Bezier(3), ends),
        sampler=Uniform(),
        places=1,
        free="inner",
        transforms=[],
        weight_decay=1e-3,
        ema_decay=0.5,
        network=middle,
        **common(objective),
    )


NORMED, CUMULATIVE = partial(nn.BatchNorm2d, 4), partial(nn.BatchNorm2d, 4, momentum=None, affine=False)
MADE: dict[str, tuple[Callable[[], EndpointModule], int]] = {
    "endpoint": (partial(endpoint, nn.Identity, CrossEntropy()), ODD),
    "normed endpoint": (partial(endpoint, NORMED, CrossEntropy()), ODD),
    "other norm": (partial(endpoint, CUMULATIVE, CrossEntropy()), EVEN),
    "trades": (partial(endpoint, NORMED, Trades(PGD, 6.0)), ODD),
    "robust endpoint": (partial(robust, NORMED, Adversarial(PGD)), ODD),
    "fewer images than a batch": (partial(endpoint, NORMED, CrossEntropy()), 100),
    "curve": (partial(curve, nn.Identity, CrossEntropy()), ODD),
    "robust curve": (partial(curve, NORMED, Adversarial(PGD)), ODD),
}


SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "stop": 2,
    "keep": "last",
    "patience": 0,
    "watch": {"collapse": 0.5, "learned": 1.0, "epochs": 2, "clean_tolerance": 0.05},
    "backend": "none",
    "loggers": [],
}
ALONE: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
JOINED: dict[str, Any] = {"accelerator": "cpu", "devices": PROCESSES, "strategy": "ddp", "threads": 1}
SPAWNED = JOINED | {"strategy": "ddp_spawn"}


def trained(
    module: EndpointModule, folder: Path, size: int = EVEN, precision: str = "fp32", **runtime: Any
) -> tuple[list[Row], dict[str, Tensor]]:
    """The history of a training of two epochs, and all tensors that it leaves."""
    batches = TrainingBatches(IMAGES, LABELS, size, Augmentation(1, 0.5), "contiguous", 3)
    watched = EvaluationBatches(IMAGES[:20], LABELS[:20], 10, "contiguous")
    asked = watched if module.objective.attacks or not isinstance(module, SubspaceModule) else None
    result = fit(module, batches, asked, folder, label="it", precision=precision, runtime=runtime, **SETTINGS)
    return result.rows, {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}


def process(rank: int, port: int, folder: Path) -> None:
    """One of two that train everything in turn: to start processes for each would take most of the time."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    for name, (make, size) in MADE.items():
        rows, state = trained(make(), folder / f"of {name}", size, **JOINED)
        torch.save({"rows": rows, "state": state}, folder / f"{name} {rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shared_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes gave of each training: one file for each process."""
    folder = tmp_path_factory.mktemp("devices")
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    multiprocessing.spawn(process, (port, folder), nprocs=PROCESSES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_two_processes_give_what_one_gives(name: str, shared_batches: Path, tmp_path: Path) -> None:
    make, size = MADE[name]
    rows, state = trained(make(), tmp_path, size, **ALONE)
    found = [torch.load(shared_batches / f"{name} {rank}", weights_only=True) for rank in range(PROCESSES)]
    for one in found:
        assert one["rows"] == [pytest.approx(row, rel=1e-5, abs=1e-6) for row in rows]
        assert one["state"].keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(one["state"][key], value, rtol=1e-5, atol=1e-6)


def test_batches_are_cut_where_their_images_lie() -> None:
    batches = TrainingBatches(IMAGES, LABELS, EVEN, Augmentation(1, 0.5), "contiguous", 3)
    watched = EvaluationBatches(IMAGES, LABELS, EVEN, "contiguous")
    for one in (batches, watched):
        one.to(torch.device("meta"))
        assert {part.device.type for batch in one for part in batch} == {"meta"}


@pytest.mark.slow
def test_a_refusal_in_a_process_comes_home_as_one_line(tmp_path: Path, monkeypatch) -> None:
    """Of an error in another process torch brings the text of the traceback."""

    def end(error: Exception) -> None:
        try:
            raise error
        except type(error):
            text = f"\n\n-- Process 1 terminated with the following error:\n{traceback.format_exc()}"
        raise ProcessRaisedException(text, 1, 0)

    module = endpoint(nn.Identity, CrossEntropy())
    monkeypatch.setattr(pl.Trainer, "fit", lambda *args, **words: end(InputError("training diverged: lower it")))
    with pytest.raises(InputError, match=r"^training diverged: lower it$"):
        trained(module, tmp_path, **SPAWNED)
    monkeypatch.setattr(pl.Trainer, "fit", lambda *args, **words: end(KeyError("a fault")))
    with pytest.raises(ProcessRaisedException):
        trained(module, tmp_path, **SPAWNED)


def test_a_batch_has_an_image_for_each_process(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^few: a batch of 1 images has none for each of 2 processes$"):
        fit(
            endpoint(nn.Identity, CrossEntropy()),
            RepeatedBatches(3, IMAGES[:1], LABELS[:1], EVEN, Augmentation(0, 0), "contiguous", 0),
            None,
            tmp_path,
            label="few",
            precision="fp32",
            **SETTINGS,
            runtime=SPAWNED,
        )


@pytest.mark.slow
def test_processes_that_ask_their_share_of_the_places_give_the_same_bytes(
    make, config, tmp_path: Path, monkeypatch
) -> None:
    """And run no code of a file that lies in the folder and is called like a module of Python."""
    words = ["evaluation.grid=5", "evaluation.hessian_images=0"]
    made = make(*words, goal="evaluate")
    (stage,) = (
        one for one in pipeline.ordered(pipeline.plan(config(*words))["evaluate"]) if one.label == "measure robust"
    )
    inputs = {role: made[need.label][0] for role, need in stage.needs.items()}
    inputs |= {role: made[need.label][0] for need in stage.needs.values() for role, need in need.needs.items()}
    runtime = config("runtime=ddp", "runtime.accelerator=cpu", "runtime.threads=1")["runtime"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "struct.py").write_text("raise SystemExit('code ran')")
    measure.compute(stage, inputs, tmp_path, Context(runtime, {}, "tests", tmp_path))
    for name in ("measure.json", "per_image.safetensors"):
        assert (tmp_path / name).read_bytes() == (made[stage.label][0] / name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_every_place_and_end_is_asked_once_and_comes_back_in_order(processes: int, monkeypatch) -> None:
    class Here:
        """Does in this process what others would do."""

        def __init__(self, count: int, context: Any) -> None:
            self.count = count

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *error: Any) -> None: ...

        def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(work(*args))
            return done

    asked: list[tuple[list[int], list[int], int]] = []

    def work(places: list[int], ends: list[int], context: Context, reached: Any) -> Answers:
        asked.append((places, ends, context.runtime["threads"]))
        values, given = (torch.tensor([[10.0 * number, 1] for number in part]) for part in (places, ends))
        return Answers({"a": values}, {"a": given} if ends else {}, {})

    monkeypatch.setattr(spread, "ProcessPoolExecutor", Here)
    runtime = {"accelerator": "cpu", "devices": processes, "strategy": "ddp_spawn", "threads": 1}
    reached: list[int] = []
    context = Context(runtime, {}, "tests", Path())
    found = spread.spread(work, [3, 1, 4, 5, 9], [0, 1], context, lambda count, row: reached.append(count))
    assert found.values["a"][:, 0].tolist() == [30, 10, 40, 50, 90]
    assert found.given["a"][:, 0].tolist() == [0, 10]
    assert sorted(number for places, _, _ in asked for number in places) == [1, 3, 4, 5, 9]
    assert len(asked) == min(processes, 5)
    assert processes == 1 or reached[-1] == 5


@pytest.mark.usefixtures("two_gpus")
def test_each_of_several_processes_has_a_device_of_its_own() -> None:
    runtime = {"accelerator": "gpu", "devices": [0, 1], "strategy": "ddp_spawn", "threads": 0, "compile": "none"}
    context = Context(runtime, {}, "tests", Path())
    alone = [context.alone(rank) for rank in range(2)]
    assert [one.device_name for one in alone] == ["cuda:0", "cuda:1"]
    for one in alone:
        one.check()
        assert one.processes == 1


# ---------------------------------------------------------------------------------- what is asked for


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


WRONG = {
    "runtime.accelerator=foo": "runtime.accelerator=foo must be cpu, gpu, cuda, mps or auto",
    "runtime.accelerator=mps": "runtime.accelerator=mps: Apple's GPUs have no float64, in which means and spectra are "
    "taken: use runtime=cpu",
    "runtime.devices=0": "runtime.devices=0 must be at least 1 or a list",
    "runtime.devices=-1": "runtime.devices=-1 must be at least 1 or a list",
    "runtime.devices='2'": "runtime.devices=2 is no whole number or list of numbers: the configuration has "
    "runtime.devices=1",
    "runtime.devices=9999": rf"runtime.devices=9999, but there are {os.cpu_count()} CPUs",
    "runtime.devices=[0]": "runtime.devices=[0] names GPUs; on a CPU it is a number of processes, such as 1",
    "runtime=ddp runtime.accelerator=cpu training.batch_size=1": "train start: batch_size=1 has no image for each of 2 "
    "processes",
}
WRONG_WITH_GPUS = {
    "runtime=gpu runtime.devices=[0,0]": "runtime.devices=[0,0] names a device twice: each once, such as [0,1]",
    "runtime=gpu runtime.devices=[2]": "runtime.devices=[2], but there are 2 CUDA devices, counted from 0",
    "runtime=ddp runtime.devices=99": "runtime.devices=99, but there are 2 CUDA devices",
    "runtime=auto runtime.devices=[0,1]": "runtime.strategy=auto: several devices need runtime=ddp",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_device_is_refused_in_one_line(words: str, request_for, tmp_path: Path) -> None:
    refused(words, WRONG[words], request_for, tmp_path)


@pytest.mark.parametrize("words", WRONG_WITH_GPUS)
@pytest.mark.usefixtures("two_gpus")
def test_gpus_that_are_not_there_are_refused_in_one_line(words: str, request_for, tmp_path: Path) -> None:
    refused(words, WRONG_WITH_GPUS[words], request_for, tmp_path)


def refused(words: str, expected: str, request_for, folder: Path) -> None:
    with pytest.raises(InputError) as error:
        run.check(request_for(*TINY, f"paths.root={folder / 'root'}", *words.split()))
    assert str(error.value) == expected
    assert not (folder / "root").exists()


@pytest.mark.parametrize(("cuda", "device"), [(True, "cuda:0"), (False, "cpu")])
def test_auto_is_one_device_for_training_and_evaluation(cuda: bool, device: str, config, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    context = Context(config("runtime=auto")["runtime"], {}, "tests", Path())
    context.check()
    assert context.trainer()["accelerator"] == {"cuda:0": "gpu", "cpu": "cpu"}[device]
    # Where images and networks of the evaluation lie, where those of training do, and what the record says.
    assert context.device_name == context.training_data_device == context.machine()["device"] == device


# ---------------------------------------------------------------------------------- TF32


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


class Asked(EndpointModule):
    """Remembers whether TF32 was allowed while it was trained."""

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.allowed = allowed()
        return super().training_step(batch, index)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_allowed_in_a_training_that_asks_for_it_and_nowhere_else(precision: str, tmp_path: Path) -> None:
    module = Asked(network(nn.Identity), **common(CrossEntropy()))
    trained(module, tmp_path, precision=precision, **ALONE)
    assert module.allowed == (precision == "tf32",) * 2
    assert allowed() == (False, False)
    with autocast(precision, torch.device("cpu")):
        assert allowed() == (precision == "tf32",) * 2
    assert allowed() == (False, False)


def test_tf32_is_another_recipe_and_on_a_cpu_the_same_numbers(make) -> None:
    words = ["attack=none", "evaluation.hessian_images=0"]
    exact = make(*words, goal="evaluate")
    rounded = make(*words, "training.precision=tf32", "evaluation.precision=tf32", goal="evaluate")
    for label, name in (
        ("train start", "network"),
        ("connect path", "control"),
        ("measure test", "per_image"),
    ):
        one, other = (found[label][0] for found in (exact, rounded))
        assert one != other
        assert (one / f"{name}.safetensors").read_bytes() == (other / f"{name}.safetensors").read_bytes()
