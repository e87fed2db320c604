"""A training step of a network and of a path: plain against curve, this package's forms against the textbook's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks import subject
from benchmarks.paired import Row, Usual, publish, ratio, timed
from benchmarks.peaks import Jobs, bandwidth, floors
from benchmarks.reference import training
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.curve import Curve
from mcr.numerics.precision import Precision, autocast
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.sampling.uniform import Uniform
from mcr.schedules.flat_linear_flat import FlatLinearFlat
from mcr.training.endpoint import EndpointModule
from mcr.training.subspace import SubspaceModule
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import control_points, inner_points

REPEATS = {"small_vgg": 31, "preresnet26": 15, "vgg16": 9}
DECAY = 1e-4
Measured = tuple[list[Row], Jobs, dict[str, list[float]]]
SURFACES = {"surface 3x3": BezierSurface(3), "surface 4x4": BezierSurface(4)}
GOALS = {"surface 3x3": 1.10, "surface 4x4": 1.15}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


def common() -> dict[str, Any]:
    """What every module of training is given here."""
    schedule = FlatLinearFlat(flat=0.5, fall=0.9, final_factor=0.01)
    return {"optimizer": sgd, "schedule": schedule, "num_classes": 10, "seed": "benchmark"}


def plain(name: str, objective: Any) -> EndpointModule:
    """The package's module of an endpoint, ready for ``step``."""
    network = subject.network(name).to(memory_format=torch.channels_last)
    module = EndpointModule(network=network, objective=objective, **common())
    module.on_train_epoch_start()
    return module


def curve(name: str, objective: Any, shape: Curve | None = None) -> SubspaceModule:
    """The package's module of a path or a surface, ready for ``step``; a quadratic Bezier curve if none is named."""
    shape = shape or Bezier(3)
    network = subject.network(name).to(memory_format=torch.channels_last)
    layout = Layout.of(network, "channels_last")
    ends = [layout.pack(subject.network(name, seed).state_dict()) for seed in range(1, 1 + shape.ends)]
    places = {
        "curve": shape,
        "layout": layout,
        "points": control_points(shape, ends),
        "sampler": Uniform(),
        "places": 1,
    }
    places |= {"weight_decay": DECAY, "ema_decay": 0.0}
    module = SubspaceModule(**places, free="inner", transforms=[], network=network, objective=objective, **common())
    module.on_train_start()
    module.on_train_epoch_start()
    return module


def stepper(module: EndpointModule, precision: Precision) -> Callable[[], None]:
    """What Lightning does in a step of a module, and nothing else."""
    optimizer = sgd(module.learning())
    pixels, labels = subject.images()
    images = pixels.contiguous(memory_format=torch.channels_last)
    update = partial(module.update, optimizer) if isinstance(module, SubspaceModule) else optimizer.step

    def step() -> None:
        optimizer.zero_grad()
        with autocast(precision, images.device):
            loss = module.training_step((images, labels), 0)
        loss.backward()
        update()
        module.steps.clear()

    return step


def textbook(name: str) -> tuple[Callable[[], float], Callable[[], float]]:
    """The plain step and the curve's step in their straightforward form."""
    images, labels = subject.images()
    network, moved = subject.network(name), subject.network(name)
    start, end = (dict(subject.network(name, seed).named_parameters()) for seed in (1, 2))
    ends = ({key: value.detach() for key, value in part.items()} for part in (start, end))
    path = training.BezierCurve(moved, *ends)
    draw = torch.Generator().manual_seed(0)

    def on_curve() -> float:
        t = float(torch.rand((), generator=draw))
        return training.curve_step(path, bend, images, labels, t, DECAY)

    bend = sgd(path.parameters())
    return partial(training.step, network, sgd(network.parameters()), images, labels), on_curve


def measure(name: str, repeats: int) -> Measured:
    """Rows, jobs whose floor is wanted, and seconds of one network."""
    simple, on_curve = textbook(name)
    shapes = {"plain": partial(plain, name), "curve": partial(curve, name)}
    ours = {
        f"{name}, {kind}, {precision}": stepper(shape(CrossEntropy()), precision)
        for precision in ("fp32", "bf16")
        for kind, shape in shapes.items()
    }
    theirs = {f"{name}, plain, textbook": Usual(simple), f"{name}, curve, textbook": Usual(on_curve)}
    surfaces = {
        f"{name}, {kind}, fp32": stepper(curve(name, CrossEntropy(), shape), "fp32") for kind, shape in SURFACES.items()
    }
    times = timed({**theirs, **ours, **surfaces}, repeats)
    rows = [
        ratio(times, f"{name}, curve, {precision}", f"{name}, plain, {precision}", 1.05)
        for precision in ("fp32", "bf16")
    ]
    rate = bandwidth()
    for kind, shape in SURFACES.items():
        note = _traffic(name, shape, rate)
        rows.append(ratio(times, f"{name}, {kind}, fp32", f"{name}, plain, fp32", GOALS[kind], note))
    for kind in shapes:
        rows.append(ratio(times, f"{name}, {kind}, fp32", f"{name}, {kind}, textbook"))
        rows.append(ratio(times, f"{name}, {kind}, bf16", f"{name}, {kind}, textbook", 0.55))
    steps = [(precision, ours[f"{name}, plain, {precision}"]) for precision in DTYPES]
    return rows, {f"{name}, {precision}": (step, DTYPES[precision]) for precision, step in steps}, times


def _traffic(name: str, shape: Curve, rate: float) -> str:
    """What a step with momentum carries beside a plain one, at the least.

    Every point is read for theta; of each free point but one, itself and its momentum are read and written.
    """
    points, free = len(shape.initial()), len(inner_points(shape))
    vectors = points + 4 * (free - 1)
    size = 4 * sum(parameter.numel() for parameter in subject.network(name).parameters())
    return f"{vectors} vectors more through memory: {1000 * vectors * size / rate:.0f} ms at its peak"


def over_networks(measured: Callable[[str, int], Measured], repeats: Mapping[str, int]) -> Measured:
    """The rows, jobs and seconds of all networks together."""
    rows, jobs, times = [], {}, {}
    for name, count in repeats.items():
        found = measured(name, count)
        rows += found[0]
        jobs |= found[1]
        times |= found[2]
    return rows, jobs, times


def main() -> None:
    rows, jobs, times = over_networks(measure, REPEATS)
    what = f"One optimizer step on a batch of {subject.BATCH} images 32x32; textbook: float32, NCHW."
    publish("training_step", what, rows, floors(jobs), times)


if __name__ == "__main__":
    main()
