"""Interleaved timings in one process, and what becomes of them."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from mcr.numerics.malloc import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        job: What was done, in which form.
        unit: What the number is: a ratio to another form, seconds, ...
        value: Median over repeats, with the least and the most.
        target: At most this, or None where the number is only told.
        note: What stands in the way, or what the number is made of.
    """

    job: str
    unit: str
    value: tuple[float, float, float]
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "reached" if self.value[0] <= self.target else "missed"

    @property
    def shown(self) -> str:
        middle, least, most = (f"{value:.3g}" if abs(value) < 0.01 else f"{value:.3f}" for value in self.value)
        return middle if len(set(self.value)) == 1 else f"{middle} [{least}, {most}]"


class Usual:
    """A straightforward form, under the memory settings of a program that does not choose any."""

    # What glibc comes to by itself with large tensors: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD at their limits.
    SETTINGS: ClassVar = {-3: 2**25, -1: 2**26}

    def __init__(self, form: Callable[[], Any]) -> None:
        self.form = form

    def __call__(self) -> Any:
        return self.form()


def _settle(form: Callable[[], Any]) -> None:
    """Memory settings of a form, and one call that is not timed: it finds the heap as the other settings left it."""
    if isinstance(form, Usual):
        with suppress(OSError, AttributeError, TypeError):
            for parameter, value in Usual.SETTINGS.items():
                ctypes.CDLL(None).mallopt(parameter, value)
    else:
        keep_freed_memory()
    form()


def timed(forms: Mapping[str, Callable[[], Any]], repeats: int, warmups: int = 1) -> dict[str, list[float]]:
    """Seconds of every form, one after the other in each repeat.

    Load from elsewhere hits neighbours alike, so ratios inside a repeat are worth more than times. Forms run under this
    package's memory settings, a ``Usual`` one under those of a program that does not choose any.

    Args:
        forms: Name to a call.
        repeats: Of the whole round.
        warmups: Rounds before it that are not timed; none for forms that take a minute.
    """
    for form in list(forms.values()) * warmups:
        form()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    latest = False
    for _ in range(repeats):
        for name, form in forms.items():
            if isinstance(form, Usual) != latest:
                _settle(form)
                latest = isinstance(form, Usual)
            gc.collect()  # not in the middle of a form that happens to fill the collector's count
            begin = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - begin)
    keep_freed_memory()
    return seconds


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return statistics.median(values), min(values), max(values)


def ratio(times: Times, form: str, over: str, target: float | None = None, note: str = "") -> Row:
    """A form's time over another's in the same repeat."""
    pairs = zip(times[form], times[over], strict=True)
    return Row(form, f"of {over}", spread([one / other for one, other in pairs]), target, note)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16 instructions": "avx512_bf16" in flags or "amx_bf16" in flags,
        "gpu": device,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "no checkout"


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text().splitlines() if place.is_file() else []


def publish(name: str, what: str, rows: Sequence[Row], facts: Mapping[str, Any], times: Times | None = None) -> None:
    """Write results/NAME.json and results/NAME.md, and print the table.

    Args:
        name: Of the benchmark.
        what: One sentence: the job, the network, the batch.
        rows: What was measured.
        facts: Numbers beside it, for the reader: milliseconds, losses that must agree, floors.
        times: Seconds by form and repeat.
    """
    RESULTS.mkdir(exist_ok=True)
    median = {f"ms, {form}": f"{1000 * statistics.median(values):.1f}" for form, values in (times or {}).items()}
    found = {
        "what": what,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "facts": {**median, **facts},
        "seconds": times or {},
        "machine": machine(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [f"# {name}", "", what, "", *_table(rows), ""]
    lines += [f"- {key}: {value}" for key, value in found["facts"].items()]
    lines += ["", ", ".join(f"{key} {value}" for key, value in machine().items())]
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text, flush=True)


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| job | unit | median [least, most] | at most | | |", "| :-- | :-- | --: | --: | :-- | :-- |"]
    for row in rows:
        goal = "" if row.target is None else f"{row.target:g}"
        lines.append(f"| {row.job} | {row.unit} | {row.shown} | {goal} | {row.verdict} | {row.note} |")
    return lines


def summarize(names: Sequence[str]) -> None:
    """One JSON and one Markdown table of every number that has a target, from the results of the benchmarks."""
    found = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names}
    rows = {
        name: [Row(**{key: value for key, value in row.items() if key != "verdict"}) for row in one["rows"]]
        for name, one in found.items()
    }
    goals = {name: [row for row in every if row.target is not None] for name, every in rows.items()}
    told = {
        name: {"machine": found[name]["machine"], "rows": [{**asdict(row), "verdict": row.verdict} for row in every]}
        for name, every in goals.items()
    }
    (RESULTS / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    count = [row.verdict for every in goals.values() for row in every]
    lines = [
        "# All numbers with a target",
        "",
        f"{count.count('reached')} of {len(count)} reached. Made by `make bench`; each benchmark's own page has more.",
    ]
    for name, every in goals.items():
        lines += ["", f"## [{name}]({name}.md)", "", found[name]["what"], "", *_table(every)]
    machines = {", ".join(f"{key} {value}" for key, value in one["machine"].items()) for one in found.values()}
    (RESULTS / "README.md").write_text("\n".join([*lines, "", *sorted(machines)]) + "\n")
