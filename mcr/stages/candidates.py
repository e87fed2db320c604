"""The candidates of a repair as the choice saw them and as the card measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr.progress import bar
from mcr.repairs.bench import Bench
from mcr.reports import cards
from mcr.selection.choice import ESTIMATE
from mcr.stages.scorecard import Scorecard


def along(
    choice: Mapping[str, Any], method: Any, bench: Bench, scorecard: Scorecard, label: str
) -> list[dict[str, Any]]:
    """The chosen repair's candidates of its learning rate: what the choice saw, and what the card measures."""
    chosen = choice["chosen"]
    alike = [found for found in choice["candidates"] if _origin(found) == _origin(chosen)]
    seen = {_name(candidate): candidate for candidate in alike}
    rows = []
    with bar(label, len(alike), "candidates") as progress:
        for candidate, network in method.candidates(bench):
            means = {name: float(values.mean()) for name, values in scorecard.ask(network).values.items()}
            name = _name(candidate)
            rows.append({**seen[name], "chosen": name == _name(chosen), **means})
            progress.reach(len(rows), f"clean {means['clean_accuracy']:.3f}")
    return rows


def searched(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each repair and learning rate: how many candidates it gave, how many were allowed, the best of them."""
    found = []
    for repair, rate in dict.fromkeys(map(_origin, candidates)):
        members = [one for one in candidates if _origin(one) == (repair, rate)]
        estimates = {"estimated": min(one[ESTIMATE] for one in members)} if ESTIMATE in members[0] else {}
        found.append(
            {
                "repair": repair,
                "rate": rate,
                "candidates": len(members),
                "allowed": sum(one["allowed"] for one in members),
                "best": max(one["accuracy"] for one in members),
                **estimates,
            }
        )
    return found


def _origin(candidate: Mapping[str, Any]) -> tuple[str, float | None]:
    """The repair that gave a candidate, and its learning rate, if it has one."""
    return candidate["repair"], candidate.get("rate")


def _name(candidate: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(cards.labels(candidate).items()))
