"""How cost grows: a path's evaluation with points and with images, a look into the store with its entries."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import subject
from benchmarks.paired import Row, publish, spread, timed
from benchmarks.path_point import Path as Walked
from mcr.store.manifest import RECORD
from mcr.store.stage import Stage
from mcr.store.store import Store

POINTS = (3, 6, 12, 24)
IMAGES = (500, 1000, 2000, 4000)
ENTRIES = (10, 100, 1000, 10_000)
LOOKS = 2000  # in one timing
FLAT = 1.2  # of the cost of one at the small end


def grid(points: int) -> list[float]:
    return [index / (points - 1) for index in range(points)]


def walks() -> tuple[list[Row], dict[str, list[float]]]:
    """Cost per point and per image, at the large end over the small one: 1 where it is linear."""
    states = tuple(subject.network("small_vgg", seed).state_dict() for seed in (0, 1))
    path = Walked(subject.network("small_vgg"), (states[0], states[1]), "channels_last")

    def walk(points: int, count: int) -> None:
        part = subject.pixels(count)
        path.metrics(grid(points), {"batchnorm": part, "train": part, "test": part}, "fp32")

    rows, times = [], {}
    sizes = {
        "point": {points: (points, IMAGES[0]) for points in POINTS},
        "image": {count: (POINTS[0], count) for count in IMAGES},
    }
    for unit, chosen in sizes.items():
        found = timed({f"{size} {unit}s": lambda pair=pair: walk(*pair) for size, pair in chosen.items()}, 3)
        times |= found
        rows.append(_growth(f"path evaluation, {list(chosen)[-1]} {unit}s", unit, found, list(chosen)))
    return rows, times


def _growth(job: str, unit: str, times: dict[str, list[float]], sizes: list[int]) -> Row:
    first, last = (times[f"{size} {unit}s"] for size in (sizes[0], sizes[-1]))
    each = [(b / sizes[-1]) / (a / sizes[0]) for a, b in zip(first, last, strict=True)]
    return Row(job, f"cost per {unit}, of that with {sizes[0]}", spread(each), FLAT)


def looks() -> tuple[Row, dict[str, list[float]]]:
    """A look for a stage that is there, among ever more of its kind."""
    with tempfile.TemporaryDirectory() as folder:
        forms = {}
        for count in ENTRIES:
            store = Store(Path(folder) / str(count))
            stages = [Stage("train", 1, {"number": index}) for index in range(count)]
            for stage in stages:
                place = store.folder(stage)
                place.mkdir(parents=True)
                (place / RECORD).write_text(json.dumps({"key": stage.key}))
            asked = [stages[index % count] for index in range(LOOKS)]
            forms[f"{count} entries"] = lambda store=store, asked=asked: [store.has(stage) for stage in asked]
        times = timed(forms, 9)
    few, many = times[f"{ENTRIES[0]} entries"], times[f"{ENTRIES[-1]} entries"]
    each = [1e6 * statistics.median(seconds) / LOOKS for seconds in (few, many)]
    row = Row(
        f"look into a store of {ENTRIES[-1]} entries",
        f"of one into {ENTRIES[0]} entries",
        spread([b / a for a, b in zip(few, many, strict=True)]),
        FLAT,
        f"{each[0]:.0f} and {each[1]:.0f} microseconds; the folder that is looked into is larger",
    )
    return row, times


def main() -> None:
    rows, times = walks()
    row, more = looks()
    what = "Cost at the large end over cost at the small end, per unit: 1 is linear."
    publish("growth", what, [*rows, row], {}, times | more)


if __name__ == "__main__":
    main()
