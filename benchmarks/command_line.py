"""What a user waits for: the commands that compute nothing, and the demonstration from end to end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.paired import Row, publish, spread

VIEWS = {"mcr --help": ["--help"], "mcr list": ["list"], "mcr show": ["show"]}
DEMO = ["experiment=zhao2020_fig4_barrier_digits", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SWEEP = ["show", "experiment=zhao2020_table2_backdoor"]
ROOT = Path(__file__).parent.parent


def run(words: list[str], folder: str) -> tuple[float, str]:
    """Seconds and output of one command in its own process; its results lie in the folder."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mcr", *words]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=surroundings, check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, done.stdout


def main(repeats: int = 7) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, words in VIEWS.items():
            rows.append(Row(name, "s", spread([run(words, folder)[0] for _ in range(repeats)]), 1.0))
        sweep, plans = run(SWEEP, folder)
        jobs = sum(line.startswith("job ") for line in plans.splitlines())
        rows.append(Row(f"mcr show, a sweep of {jobs} jobs", "s", spread([sweep]), 10.0))
        demo = run(DEMO, folder)[0] / 60
        rows.append(Row("make demo, installed, nothing in the store", "min", spread([demo]), 3.0))
        again = run(DEMO, folder)[0]
        rows.append(Row("make demo once more, everything in the store", "s", spread([again])))
    publish("command_line", "Wall time of commands, each a process of its own.", rows, {})


if __name__ == "__main__":
    main()
