"""One run on several devices: processes share a batch and give what one gives; devices are checked at the border.

The processes are CPU ones (gloo). No GPU is needed, and none is tried.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from mcr.attacks.pgd import Pgd
from mcr.curves.bezier import Bezier
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.objective import Objective
from mcr.objectives.trades import Trades
from mcr.schedules.cosine import Cosine
from mcr.training.adversarial import AdversarialModule
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import Fitted, fit
from mcr.training.subspace import SubspaceModule
from mcr.weightspace import files
from mcr.weightspace.layout import Layout

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
        ends=ends,
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


def fitted(name: str, folder: Path, **runtime: Any) -> tuple[Fitted, dict[str, Tensor]]:
    """How a training of two epochs went, and what it yields."""
    make, size = MADE[name]
    module = make()
    result = fit(
        module,
        TrainingBatches(IMAGES, LABELS, size, Augmentation(1, 0.5), "contiguous", 3),
        EvaluationBatches(IMAGES[:20], LABELS[:20], 10, "contiguous") if name != "curve" else None,
        folder / name,
        label=name,
        epochs=2,
        stop=2,
        precision="fp32",
        keep="last",
        patience=0,
        watch={"collapse": 0.5, "learned": 1.0, "epochs": 2, "clean_tolerance": 0.05},
        backend="none",
        runtime=runtime,
        loggers=[],
    )
    state = module.state_dict()
    return result, {key: value for key, value in state.items() if isinstance(value, Tensor)}


def process(rank: int, port: int, folder: Path) -> None:
    """One of two that train everything in turn: to start processes for each would take most of the time."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    for name in MADE:
        result, state = fitted(name, folder, accelerator="cpu", devices=PROCESSES, strategy="ddp", threads=1)
        torch.save({"rows": result.rows, "state": state}, folder / f"{name} {rank}")
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


@pytest.mark.parametrize("name", MADE)
def test_two_processes_give_what_one_gives(name: str, shared_batches: Path, tmp_path: Path) -> None:
    alone, state = fitted(name, tmp_path, accelerator="cpu", devices=1, strategy="auto")
    found = [torch.load(shared_batches / f"{name} {rank}") for rank in range(PROCESSES)]
    print(name, state.keys())
    for one in found:
        assert one["rows"] == [pytest.approx(row, rel=1e-5, abs=1e-6) for row in alone.rows]
        assert one["state"].keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(one["state"][key], value, rtol=1e-5, atol=1e-6, msg=lambda text: f"{key} {text}")
