"""Interleaved timings in one process, and what becomes of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One form of a job beside the reference form.

    Attributes:
        name: Of the form.
        seconds: Median.
        ratio: Median over repeats of its time over the reference's in the same repeat, with the least and the most.
        target: At most this ratio, or None.
    """

    name: str
    seconds: float
    ratio: tuple[float, float, float]
    target: float | None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "reached" if self.ratio[0] <= self.target else "missed"


def paired(forms: Mapping[str, Callable[[], Any]], targets: Mapping[str, float], repeats: int) -> list[Row]:
    """Time every form once a repeat, one after the other; the first form is the reference.

    Load from elsewhere hits neighbours alike, so ratios inside a repeat are worth more than times.

    Args:
        forms: Name to a call; each is made once before anything is timed.
        targets: Name to the highest allowed ratio.
        repeats: Of the whole round.
    """
    for form in forms.values():
        form()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            begin = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - begin)
    reference = seconds[next(iter(forms))]
    rows = []
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(times, reference, strict=True)]
        ratio = (statistics.median(ratios), min(ratios), max(ratios))
        rows.append(Row(name, statistics.median(times), ratio, targets.get(name)))
    return rows


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text().splitlines() if place.is_file() else []


def publish(name: str, what: str, rows: list[Row], facts: Mapping[str, Any]) -> None:
    """Write results/NAME.json and results/NAME.md, and print the table.

    Args:
        name: Of the benchmark.
        what: One sentence: the job, the network, the batch.
        rows: Reference first.
        facts: Numbers that must agree between the forms (losses, accuracies), for the reader.
    """
    RESULTS.mkdir(exist_ok=True)
    found = {"what": what, "rows": [{**vars(row), "verdict": row.verdict} for row in rows], "facts": dict(facts)}
    (RESULTS / f"{name}.json").write_text(json.dumps({**found, "machine": machine()}, indent=2) + "\n")
    lines = [
        f"# {name}",
        "",
        what,
        "",
        "| form | ms | ratio [least, most] | at most | |",
        "| :-- | --: | --: | --: | :-- |",
    ]
    for row in rows:
        middle, least, most = row.ratio
        goal = "" if row.target is None else f"{row.target:.2f}"
        ratio = f"{middle:.3f} [{least:.3f}, {most:.3f}]"
        lines.append(f"| {row.name} | {1000 * row.seconds:.1f} | {ratio} | {goal} | {row.verdict} |")
    lines += ["", *(f"- {key}: {value}" for key, value in facts.items())]
    lines += ["", ", ".join(f"{key} {value}" for key, value in machine().items())]
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
