"""What a user waits for: the commands that compute nothing, and the demonstration from end to end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.paired import Row, publish, spread

VIEWS = {"mcr --help": ["--help"], "mcr list": ["list"], "mcr show": ["show"]}
DEMO = ["experiment=zhao2020_fig4_barrier_digits"]
SWEEP = ["show", "experiment=zhao2020_table2_backdoor"]
ROOT = Path(__file__).parent.parent


def seconds(words: list[str], folder: str) -> float:
    """Of one command in its own process; its results lie in the folder."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mcr", *words]
    subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True)
    return time.perf_counter() - begin


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def main(repeats: int = 7) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, words in VIEWS.items():
            rows.append(Row(name, "s", spread([seconds(words, folder) for _ in range(repeats)]), 1.0))
        sweep = seconds(SWEEP, folder) / 150
        rows.append(Row("mcr show, a sweep of 150 jobs", "s per job", spread([sweep])))
        demo = seconds(DEMO, folder) / 60
        rows.append(Row("make demo, installed, nothing in the store", "min", spread([demo]), 2.0))
        again = seconds(DEMO, folder)
        rows.append(Row("make demo once more, everything in the store", "s", spread([again])))
    publish("command_line", "Wall time of commands, each a process of its own.", rows, {})


if __name__ == "__main__":
    main()
