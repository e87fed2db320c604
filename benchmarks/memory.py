"""Peak memory of a step on a path with K control points, beside that of a plain step; each in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import subject
from benchmarks.paired import Row, publish, spread
from benchmarks.training_step import curve, plain, stepper
from mcr.curves.bezier import Bezier
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.weightspace.layout import Layout

NETWORK = "vgg16"
POINTS = (3, 4, 5)
MANY = 5  # from here on the tensors that a step must hold reach the target
STEPS = 2
ROOT = Path(__file__).parent.parent


def peak(points: int) -> float:
    """Bytes at most, of this process, after some steps on a path; of plain steps for 0 points."""
    torch.manual_seed(0)
    module = curve(NETWORK, CrossEntropy(), Bezier(points)) if points else plain(NETWORK, CrossEntropy())
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


def in_own_process(points: int) -> float:
    """The same, of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", str(points)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main(repeats: int = 3) -> None:
    size = Layout.of(subject.network(NETWORK), "contiguous").size
    vector = 4 * size
    bare = [in_own_process(0) for _ in range(repeats)]
    rows = []
    for points in POINTS:
        extra = [(in_own_process(points) - plain_peak) / vector for plain_peak in bare]
        unit = "parameter vectors above a plain step"
        note = "" if points < MANY else f"the tensors alone, K points and K - 2 momenta, make 2K - 3 = {2 * points - 3}"
        rows.append(Row(f"curve step, K = {points}", unit, spread(extra), points + 2, note))
    facts = {
        "one parameter vector": f"{vector / 2**20:.1f} MiB",
        "a plain step": f"{spread(bare)[0] / 2**20:.0f} MiB",
    }
    what = (
        f"Peak resident memory of a training step, {NETWORK}, batch {subject.BATCH}, float32, SGD with momentum. "
        "A path holds K points, theta(t), and a gradient and a momentum for each of the K - 2 free points."
    )
    publish("memory", what, rows, facts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(int(sys.argv[1])))
    else:
        main()
