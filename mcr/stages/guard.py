"""Look for masked gradients: does a stronger attack beat the reported one?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcr.build import build
from mcr.evaluation.summary import standard_error
from mcr.evaluation.table import PathTable
from mcr.probes.robust_risk import robust_accuracy
from mcr.progress import bar
from mcr.seeding import generator
from mcr.stages.artifacts import GUARD, PER_IMAGE, SUMMARY, TABLE, read_split, write_json
from mcr.stages.context import Context
from mcr.stages.loggers import log_summary
from mcr.stages.route import Route, in_batches
from mcr.store import Stage
from mcr.weightspace import files


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """guard.json: robust accuracy under each stronger attack beside the reported one's, on the same images.

    Looked at are both ends and the inner point with the highest robust loss, where the barrier lies.
    """
    config, part = stage.config, stage.config["evaluation"]
    route = Route.of(config, inputs, context)
    reported = files.load(inputs["table"] / PER_IMAGE)["robust_accuracy"]
    asked = part["guard"]["images"]
    # The same images under both: no more than the reported attack saw.
    count = reported.shape[1] if asked == "all" else min(asked, reported.shape[1])
    reported = reported[:, :count]
    batches = in_batches(read_split(inputs, "test", context.device_name, count), part)
    t = PathTable.read_csv(inputs["table"] / TABLE).column("t")
    inner = json.loads((inputs["table"] / SUMMARY).read_text())["metrics"]["robust_loss"]["interior_t"]
    attacks = {name: build(attack) for name, attack in part["guard"]["attacks"].items()}
    rows: list[dict[str, Any]] = []
    places = sorted({0.0, inner, 1.0})
    with bar(stage.label, len(places) * len(attacks), "attacks") as progress:
        for value in places:
            network, own = route.place(value), reported[t.index(value)].double()
            for name, attack in attacks.items():
                draw = generator(part["seed"], "guard", name)
                hits = robust_accuracy(network, batches, attack, draw, "fp32").double()
                row = {
                    "t": value,
                    "attack": name,
                    "images": len(own),
                    "reported": float(own.mean()),
                    "stronger": float(hits.mean()),
                    "advantage": float(own.mean() - hits.mean()),
                    "advantage_se": standard_error(own.numpy()),
                }
                rows.append(row)
                progress.reach(len(rows), f"t {value:.2f}  {name} {row['stronger']:.3f} of {row['reported']:.3f}")
    worst = max(rows, key=lambda row: row["advantage"])
    metrics = {"guard": {name: worst[name] for name in ("advantage", "advantage_se", "t")}}
    write_json(folder / GUARD, {"rows": rows, "metrics": metrics})
    log_summary(stage, context, metrics)
