"""The words and warnings of a repair card: what was done to a network, and what it is worth. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

from mcr.metric import Metric
from mcr.selection.choice import ESTIMATE

LABELS = r"rate|t|u\d*|v|threshold|draw"  # what tells candidates apart: u1, u2, u3 on what has three dimensions
ONLY = "the only candidate"


def spoken(name: str) -> str:
    """What people call a network on the card."""
    return "repaired" if name == "after" else name


def metrics_of(card: Mapping[str, Any]) -> dict[str, Metric]:
    """Name to metric, of all shares on the card, in its order."""
    return {name: Metric(**found) for name, found in card["descriptions"].items()}


def order(names: Sequence[str]) -> list[str]:
    """Networks as the card has them: the given ones, the untampered one, one from scratch, the repaired one."""
    last = ("untampered", "scratch", "after")
    return [*(name for name in names if name not in last), *(name for name in last if name in names)]


def candidate(row: Mapping[str, Any]) -> str:
    """What tells a candidate from the others of its repair."""
    return " ".join(f"{name} {value:g}" for name, value in labels(row).items()) or ONLY


def labels(row: Mapping[str, Any]) -> dict[str, float]:
    """Name to value of what tells a candidate from the others of its repair."""
    return {name: row[name] for name in row if re.fullmatch(LABELS, name)}


def percent(value: float) -> str:
    return f"{100 * value:.1f}" if isfinite(value) else "not known"


def intervals(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """First and last t of each run of rows, in ascending t, that kept enough held-out accuracy; none off a path."""
    found: list[list[float]] = []
    before = False
    for row in rows:
        if "t" not in row:
            return []
        if row["allowed"]:
            if before:
                found[-1][1] = row["t"]
            else:
                found.append([row["t"], row["t"]])
        before = row["allowed"]
    return found


def told(card: Mapping[str, Any]) -> bool:
    """Whether any signal tells the first network from one trained from scratch, so that something is estimated."""
    return any(signal["tells"] for signal in card["suspicion"].values())


def warnings(card: Mapping[str, Any]) -> list[str]:
    """What a reader must know before relying on the repair."""
    found, metrics, held = [], card["metrics"], card["held_out"]["images"]
    if not card["kept"]:
        found.append("no candidate kept the held-out accuracy within the margin: the most accurate one was taken")
    # As if one more image were right and one more wrong: fifty of fifty are not known to no error at all.
    share = (max(card["held_out"]["ends"].values()) * held + 1) / (held + 2)
    error = sqrt(share * (1 - share) / (held + 2))
    if error > card["selection"]["margin"] / 2:
        found.append(
            f"{held} held-out images know an accuracy to ± {percent(error)} points, the margin is "
            f"{percent(card['selection']['margin'])}: the choice is coarse, more clean images would sharpen it"
        )
    names = ("u", "v") if "v" in card["chosen"] else ("t",)  # u alone is the threshold of a repair without a path
    place = {name: card["chosen"][name] for name in names if name in card["chosen"]}
    if place and all(min(value, 1 - value) <= card["warn"]["near_end"] for value in place.values()):
        where = ", ".join(f"{name} = {value:.2f}" for name, value in place.items())
        found.append(f"the chosen {where} lies near an end, where tampering seldom fades")
    if metrics["clean_accuracy"]["lost"] > card["warn"]["lost"]:
        found.append(f"{percent(metrics['clean_accuracy']['lost'])} points of clean accuracy are lost")
    missing = [name for name, count in card["of_each_class"].items() if not count]
    if missing:
        found.append(f"no clean image of {'class' if len(missing) == 1 else 'classes'} {', '.join(missing)}")
    if "attack_success" not in metrics and "injection_success" not in metrics:
        found.append(
            "no trigger is known, so whether the tampering is gone was not measured; "
            "the agreement below says how far the network has moved"
        )
    for attack in ("attack_success", "injection_success"):
        chance = metrics.get("attack_without_trigger", {"after": 0.0})["after"] if attack == "attack_success" else 0.0
        # Of the images that get another label without the trigger, so that it can do something to them.
        if attack in metrics and metrics[attack]["after"] - chance > card["warn"]["success"] * (1 - chance):
            success = percent(metrics[attack]["after"])
            found.append(f"the tampering is still there: {attack.replace('_', ' ')} {success} %")
    if card["measured_on"]["chose"]:
        found.append("there are no test images: the accuracy after repair is that of the images that chose it")
    if card["suspicion"] and not told(card):
        found.append(
            "no signal tells the first network from one that was trained from scratch: nothing hidden was seen, "
            "and nothing is estimated"
        )
    elif card["suspicion"] and card["taken"][ESTIMATE] > card["warn"]["estimated"]:
        left = percent(card["taken"][ESTIMATE])
        found.append(f"the signals estimate that {left} % of what is hidden is left: another repair or more images")
    if card["settings"]["one_model"]:
        found.append("the second network was made from the first: what both share may survive between them")
    return found
