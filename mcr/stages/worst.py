"""The place inside a subspace that is worst by another probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr.errors import InputError
from mcr.evaluation.measured import MEASURE
from mcr.store import build, jsonfile
from mcr.store.stage import Stage

WORST = "worst"


def check(stage: Stage) -> None:
    """Whether another probe can say where a ``measure`` stage has to look.

    Raises:
        InputError: For a metric that the other probe does not measure at every place.
    """
    config, other = stage.config, stage.needs[WORST].config
    said = f"probes.{config['name']}.at=worst {config[WORST]}"
    probe = build.build_tree(other["probe"])
    if hasattr(probe, "ask") or other["at"] != "all":
        why = "asks several networks at once" if hasattr(probe, "ask") else "looks at the worst place itself"
        raise InputError(f"{said}: probes.{other['name']} {why}, and has no value at every place")
    known = [metric.of(other["name"]).name for metric in probe.metrics]
    if config[WORST] not in known:
        raise InputError(f"{said}: the metric is one of {', '.join(known)}")


def asked(config: Mapping[str, Any], shares: Sequence[Sequence[float]], inputs: Mapping[str, Path]) -> list[int]:
    """The numbers of the ends and of the worst place that is none: where an accuracy is lowest, a loss highest.

    Args:
        config: Of the ``measure`` stage that looks there.
        shares: Of the ends in the initial blend at each place, (T, E).
        inputs: Its folders.
    """
    told = jsonfile.read(inputs[WORST] / MEASURE)
    (better,) = (metric["better"] for metric in told["metrics"] if metric["name"] == config[WORST])
    sign = -1 if better == "higher" else 1
    ends = [index for index, row in enumerate(shares) if max(row) == 1]
    inner = [index for index in range(len(shares)) if index not in ends]
    return sorted({*ends, max(inner, key=lambda index: sign * told["means"][config[WORST]][index])})
