"""All benchmarks, or those that are named: ``python -m benchmarks input_eigenvalue``."""

from __future__ import annotations

import importlib
import sys

NAMES = ("input_eigenvalue", "pgd_evaluation")


def main(chosen: list[str]) -> int:
    unknown = set(chosen) - set(NAMES)
    if unknown:
        print(f"benchmarks: there is no {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in chosen or NAMES:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
