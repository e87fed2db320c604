"""Peak memory of a step on a path or surface with K control points, beside a plain step's; each in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import subject
from benchmarks.paired import Row, publish, spread
from benchmarks.training_step import curve, plain, stepper
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.curve import Curve
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import inner_points

NETWORK = "vgg16"
SHAPES: dict[str, Curve] = {f"K={points}": Bezier(points) for points in (3, 4, 5)} | {"3x3": BezierSurface(3)}
STEPS = 2
ROOT = Path(__file__).parent.parent


def peak(shape: str) -> float:
    """Bytes at most, of this process, after some steps on a path or surface, or of "plain" ones."""
    torch.manual_seed(0)
    module = curve(NETWORK, CrossEntropy(), SHAPES[shape]) if shape in SHAPES else plain(NETWORK, CrossEntropy())
    before = _high_water()
    step = stepper(module, "fp32")
    for _ in range(STEPS):
        step()
    after = _high_water()
    # Building the ends from networks must not be what was measured.
    assert after > before
    return after


def _high_water() -> float:
    status = Path("/proc/self/status").read_text()
    return 1024 * float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def in_own_process(shape: str) -> float:
    """The same, of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", shape]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main(repeats: int = 3) -> None:
    size = Layout.of(subject.network(NETWORK), "contiguous").size
    vector = 4 * size
    bare = [in_own_process("plain") for _ in range(repeats)]
    rows = []
    for name, shape in SHAPES.items():
        extra = [(in_own_process(name) - plain_peak) / vector for plain_peak in bare]
        points, free = len(shape.initial()), len(inner_points(shape))
        target, least = points + 2, points + free - 1  # K points and the momenta, less that of a plain step
        note = f"the tensors alone, K points and {free} momenta, make {least}" if least >= target else ""
        kind = "curve step" if shape.dim == 1 else f"surface step, {name}"
        unit = "parameter vectors above a plain step"
        rows.append(Row(f"{kind}, K = {points}", unit, spread(extra), target, note))
    facts = {
        "one parameter vector": f"{vector / 2**20:.1f} MiB",
        "a plain step": f"{spread(bare)[0] / 2**20:.0f} MiB",
    }
    what = (
        f"Peak resident memory of a training step, {NETWORK}, batch {subject.BATCH}, float32, SGD with momentum. "
        "A path or surface holds K points, theta(u), and a momentum for each free point."
    )
    publish("memory", what, rows, facts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1]))
    else:
        main()
