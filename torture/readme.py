"""Every ``mcr`` line of the README and of docs at its real settings, one after the other, each bounded by seconds.

The test-suite plans these lines and runs them small. What does not fit the settings as they are written shows here.
Hours on a CPU; ``--only WORD`` runs the lines that have it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
# What a machine without network, account or GPU cannot do.
ELSEWHERE = ("dataset=cifar10", "experiment=", "logger.mode=online", "runtime=gpu", "endpoint@endpoints.end=your")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def lines() -> list[str]:
    """All commands, each once."""
    blocks = [block for path in DOCUMENTS for block in BLOCK.findall(path.read_text(encoding="utf-8"))]
    found = [line.split(" #")[0].strip() for kind, text in blocks if kind == "bash" for line in text.splitlines()]
    return list(dict.fromkeys(line for line in found if line == "mcr" or line.startswith("mcr ")))


def furnish(desk: Path) -> None:
    """What the lines speak of: a network and a probe of the user's own, two files of weights, photos."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    network = next(text for kind, text in blocks if kind == "python" and "class MyNet" in text)
    (desk / "my_nets.py").write_text(network, encoding="utf-8")
    probe = next(text for kind, text in blocks if kind == "python" and "class Confidence" in text)
    (desk / "my_probes.py").write_text(probe, encoding="utf-8")
    option = next(text for kind, text in blocks if kind == "yaml" and "Confidence" in text)
    (desk / "mine" / "probe").mkdir(parents=True)
    own = option.replace("mcr.probes.confidence", "my_probes")
    (desk / "mine" / "probe" / "confidence.yaml").write_text(own, encoding="utf-8")
    for folder in ("photos", "clean", "DIR"):
        for index in range(1500):
            place = desk / folder / ("cats", "dogs", "birds")[index % 3]
            place.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).normal(60 + 60 * (index % 3), 40, (24, 24, 3))
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(place / f"{index}.png")


def weights(desk: Path, line: str) -> None:
    """Networks for the data of a line: of three kinds of photos, or of ten digits."""
    from safetensors.torch import save_file

    namespace: dict = {}
    exec((desk / "my_nets.py").read_text(encoding="utf-8"), namespace)
    photos = "dataset=imagefolder" in line
    for name in ("a", "b"):
        state = namespace["MyNet"](*((3, 3) if photos else (10, 1))).state_dict()
        torch.save(state, desk / f"{name}.pt")
        save_file(state, desk / f"{name}.safetensors")


def main(seconds: float, only: str) -> int:
    """Print what became of each line; the exit status is 1 where one failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        desk = Path(root)
        furnish(desk)
        for line in (line for line in lines() if only in line):
            if any(mark in line for mark in ELSEWHERE):
                print(f"left out  {'':>7}  {line}")
                continue
            weights(desk, line)
            begin = time.monotonic()
            command = [sys.executable, *line.replace("mcr", "-m mcr", 1).split()]
            try:
                done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=seconds)
                status, said = str(done.returncode), done.stderr.strip().splitlines()[-1:]
            except subprocess.TimeoutExpired:
                status, said = "too long", []
            failed += status not in ("0", "too long")
            print(f"{status:<9} {time.monotonic() - begin:6.0f}s  {line}  {' '.join(said)}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800, help="of each line, at most")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    sys.exit(main(given.seconds, given.only))
