"""All benchmarks, or those that are named: ``python -m benchmarks input_eigenvalue``."""

from __future__ import annotations

import importlib
import sys

import torch

from benchmarks import paired

NAMES = (
    *("training_step", "adversarial_step", "pgd_evaluation", "path_point", "agreement", "loading", "framework"),
    *("input_eigenvalue", "command_line", "growth", "memory"),
)
GPU_NAMES = ("gpu",)  # run where there is a CUDA device


def main(chosen: list[str]) -> int:
    known = (*NAMES, *GPU_NAMES)
    unknown = set(chosen) - set(known)
    if unknown:
        print(f"benchmarks: there is no {', '.join(sorted(unknown))}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    if set(chosen) & set(GPU_NAMES) and not torch.cuda.is_available():
        print(f"benchmarks: {' '.join(GPU_NAMES)} needs a CUDA device; there is none", file=sys.stderr)
        return 2
    usual = (*NAMES, *GPU_NAMES) if torch.cuda.is_available() else NAMES
    for name in chosen or usual:
        importlib.import_module(f"benchmarks.{name}").main()
    paired.summarize([name for name in known if (paired.RESULTS / f"{name}.json").is_file()])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
