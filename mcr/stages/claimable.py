"""What a claim may be about: the statistics that a report or a card will hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.summary import Grid, summarize
from mcr.reports import merged
from mcr.reports.claims import judge
from mcr.stages.merged import MERGE
from mcr.stages.scorecard import CLEAN
from mcr.stages.verdicts import STRONGER
from mcr.store import build
from mcr.store.stage import Stage
from mcr.weightspace import locus
from mcr.weightspace.subspace import shares_of_ends

# What a card holds for each metric, beside the value of each network.
CARD_STATISTICS = dict.fromkeys(
    (
        *("untampered", "after", "after_se", "lowest", "highest", "repaired"),
        *("lost", "lost_to_untampered", "start_below_untampered"),
    ),
    0.0,
)
EFFECT = ("lost", "taken", "der")  # of the repair itself, under "effect"
# What is known of a pair of metrics that are correlated.
CORRELATION = dict.fromkeys(
    (f"{kind}{side}" for kind in ("pearson", "spearman") for side in ("", "_low", "_high")), 0.0
)


def check_claim(claim: Mapping[str, Any], known: Mapping[str, float]) -> None:
    """Raises InputError for a claim about what will not be measured."""
    metric = claim["quantity"].partition(".")[0]
    if "against" in claim and "repair" not in claim:
        known = {name: value for name, value in known.items() if not name.endswith("_se")}
    judge(claim, {metric: known})


def known(stage: Stage, metric: str) -> dict[str, float]:
    """The statistics that a report will hold of a metric, by name."""
    probes = {role.split("/", 1)[1]: need for role, need in stage.needs.items() if role.startswith("path/")}
    if metric == merged.NAME:
        return dict.fromkeys(merged.claimable(_merged(stage)), 0.0)
    if "_and_" in metric:
        return CORRELATION
    if metric in probes:
        probe = build.build_tree(probes[metric].config["probe"])
        if not hasattr(probe, "ask"):
            return {"advantage": 0.0, "advantage_se": 0.0}
        return dict.fromkeys(probe.numbers, 0.0)
    place = next((need.needs["place"] for need in probes.values()), None)
    if place is None:
        return {}
    curve = build.build(place.config["curve"])
    places = curve.grid(3)
    shares = np.stack([shares_of_ends(curve, u).numpy() for u in places])
    names = locus.coordinates(curve.dim)
    grid = Grid(names, places.numpy(), shares, tuple(place.config["ends"]), np.arange(len(places), dtype=float))
    return summarize(grid, {"any": np.zeros((len(places), 2))}, Bootstrap(1, 0.5))["any"]


def _merged(stage: Stage) -> dict[str, list[str]]:
    """Merge to the statistics of its probes."""
    found: dict[str, list[str]] = {}
    for role, need in stage.needs.items():
        if role.startswith(MERGE):
            found.setdefault(role.split("/")[1], []).extend(build.build_tree(need.config["probe"]).numbers)
    return found


def of_goal(goal: Stage) -> dict[str, dict[str, float]]:
    """Metric to the statistics that the summary of a run will hold; nothing where a run ends before it is measured."""
    if goal.name == "report":
        probes = {role.split("/", 1)[1]: need for role, need in goal.needs.items() if role.startswith("path/")}
        built = {name: build.build_tree(need.config["probe"]) for name, need in probes.items()}
        single = {name: probe for name, probe in built.items() if not hasattr(probe, "ask") and name != STRONGER}
        along = [metric.of(probes[name].config["name"]).cost for name, one in single.items() for metric in one.metrics]
        pairs = ["_and_".join(pair) for pair in goal.config["statistics"]["correlations"]]
        together = [name for name, probe in built.items() if hasattr(probe, "ask")]
        merges = [merged.NAME] if _merged(goal) else []
        return {metric: known(goal, metric) for metric in (*along, *pairs, *together, *merges)}
    if goal.name == "card":
        ends = dict.fromkeys(goal.needs["choose"].config["ends"], 0.0)
        asked = {name: build.build_tree(part["probe"]) for name, part in goal.config["probes"].items()}
        names = [CLEAN.name, *(f"{name}_{metric.name}" for name, probe in asked.items() for metric in probe.metrics)]
        return {**{name: {**CARD_STATISTICS, **ends} for name in names}, "effect": dict.fromkeys(EFFECT, 0.0)}
    return {}
