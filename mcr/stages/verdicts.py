"""The claims of a run, judged by what its report knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcr.evaluation.measured import Measured
from mcr.reports.claims import Verdict, judge
from mcr.reports.soundness import KINDS, Doubt, questioned
from mcr.stages.ends import about
from mcr.store.stage import Stage

FITTED = "path"  # the name of THE subspace of a run
STRONGER = "stronger"  # the probe of stronger attacks


def strongest(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The stronger attack with the largest advantage, as statistics that a claim may name."""
    if not rows:
        return {}
    worst = max(rows, key=lambda row: row["advantage"])
    return {STRONGER: {name: worst[name] for name in ("advantage", "advantage_se")}}


def judged(
    stage: Stage,
    measured: Mapping[str, Measured],
    known: Mapping[str, Mapping[str, Mapping[str, Any]]],
    found: Sequence[Doubt],
) -> list[tuple[str, Verdict]]:
    """The claims about paths with their verdicts, under the name of the path that each is about.

    Args:
        stage: The report's.
        measured: Of each subspace.
        known: Of each subspace, metric to its statistics.
        found: Doubts about the ends: the claims that they concern are not tested.
    """
    judged = []
    for claim in stage.config["claims"]:
        name, other = claim.get("of", FITTED), claim.get("against")
        if "repair" in claim or name not in known or (other is not None and other not in known):
            continue
        if other is not None:
            verdict = judge(claim, _differences(known[name], known[other]))
            said = f", less that of the {measured[other].label}"
        else:
            verdict, said = judge(claim, known[name]), ""
        if verdict is not None:
            about, statistic = _about(claim["quantity"], stage, measured[name], name)
            verdict = questioned(verdict, found, about, statistic)
            # A sweep's report names the job, so that the statement has to say whose path it is about.
            whose = "" if name == FITTED else f"{measured[name].label}: "
            judged.append((measured[name].label, replace(verdict, statement=f"{whose}{verdict.statement}{said}")))
    return judged


def _about(quantity: str, stage: Stage, measured: Measured, name: str) -> tuple[list[str], str]:
    """What a claim's probes are about, and "end" where it asks for the value of an end."""
    metric, _, statistic = quantity.partition(".")
    probes = {probe: probe for probe in measured.measures}
    for probe, one in measured.measures.items():
        probes |= {known: probe for metric_of in one.metrics for known in (metric_of.name, metric_of.cost)}
    asked = [probes[part] for part in metric.split("_and_") if part in probes]
    kinds = [about(stage.needs[f"{name}/{probe}"].config) for probe in asked]
    return kinds, "end" if statistic in measured.grid.ends else statistic


def _differences(
    path: Mapping[str, Mapping[str, float]], reference: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The path's statistics less the reference's, of what both have; a difference has no standard error here."""
    return {
        metric: {
            name: value - reference[metric][name]
            for name, value in values.items()
            if name in reference[metric] and not name.endswith("_se")
        }
        for metric, values in path.items()
        if metric in reference
    }


def of_card(
    claims: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, float]],
    found: Sequence[Doubt],
    ends: Sequence[str],
) -> list[Verdict]:
    """Claims about a repair.

    Args:
        claims: Those about this repair alone.
        metrics: Metric to its statistics.
        found: Doubts about the ends.
        ends: Names of the given networks.
    """
    judged = []
    for claim in claims:
        verdict = judge(claim, metrics)
        if verdict is not None:
            metric, _, statistic = claim["quantity"].partition(".")
            judged.append(questioned(verdict, found, KINDS.get(metric, ()), "end" if statistic in ends else statistic))
    return judged
