"""The repair card: what was done to a network, by which rule, and what it is worth. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.reports.claims import Verdict
from mcr.text import markdown_cell, markdown_code

LABELS = ("rate", "t", "u", "v", "threshold", "draw")  # what tells candidates apart
ONLY = "the only candidate"


def spoken(name: str) -> str:
    """What people call a network on the card."""
    return "repaired" if name == "after" else name


def metrics_of(card: Mapping[str, Any]) -> dict[str, Metric]:
    """Name to metric, of all shares on the card, in its order."""
    return {name: Metric(**found) for name, found in card["descriptions"].items()}


def order(names: Sequence[str]) -> list[str]:
    """Networks as the card has them: the given ones, the untampered one, the repaired one."""
    return [
        *(name for name in names if name not in ("untampered", "after")),
        *(n for n in ("untampered", "after") if n in names),
    ]


def candidate(row: Mapping[str, Any]) -> str:
    """What tells a candidate from the others."""
    return " ".join(f"{name} {row[name]:g}" for name in LABELS if name in row) or ONLY


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def intervals(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """First and last t of each run of neighbouring grid points that kept enough held-out accuracy."""
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
    t = card["chosen"].get("t", 0.5)
    if min(t, 1 - t) <= card["warn"]["near_end"]:
        found.append(f"the chosen t = {t:.2f} lies near an end, where tampering seldom fades")
    if metrics["clean_accuracy"]["lost"] > card["warn"]["lost"]:
        found.append(f"{percent(metrics['clean_accuracy']['lost'])} points of clean accuracy are lost")
    missing = [name for name, count in card["of_each_class"].items() if not count]
    if missing:
        found.append(f"no clean image of {', '.join(missing)}")
    if "attack_success" not in metrics and "injection_success" not in metrics:
        found.append(
            "no trigger is known, so whether the tampering is gone was not measured; "
            "the agreement below says how far the network has moved"
        )
    for attack in ("attack_success", "injection_success"):
        chance = metrics.get("attack_without_trigger", {"after": 0.0})["after"] if attack == "attack_success" else 0.0
        if attack in metrics and metrics[attack]["after"] > max(card["warn"]["success"], 2 * chance):
            share = percent(metrics[attack]["after"])
            found.append(f"the tampering is still there: {attack.replace('_', ' ')} {share} %")
    if "held-out" in card["measured_on"]["which"]:
        found.append("there are no test images: the accuracy after repair is that of the images that chose it")
    if card["settings"]["one_model"]:
        found.append("the second network was made from the first: what both share may survive between them")
    return found


def document(card: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], claims: Sequence[Verdict]) -> str:
    """The card as Markdown."""
    sections = [f"# Repair card: {markdown_cell(card['title'])}\n", "![candidates](figure.png)\n"]
    if card["warnings"]:
        lines = [f"- {markdown_cell(line)}" for line in card["warnings"]]
        sections.append("## Warnings\n\n" + "\n".join(lines) + "\n")
    which = card["measured_on"]
    sections += [
        f"## Before and after\n\nOn {which['images']} {which['which']}.\n\n{_before_after(card)}\n",
        f"## Choice\n\n{_choice(card)}\n",
        "## Accuracy of each class, %\n\n" + _per_class(card) + "\n",
    ]
    if card["reactivation"]:
        sections.append(_reactivation(card["reactivation"], card["measured_on"]["metrics"]["attack_success"]))
    if claims:
        rows_of = [[claim.source, claim.statement, claim.value, claim.word] for claim in claims]
        reasons = dict.fromkeys(claim.untested for claim in claims if claim.untested)
        said = "".join(f"\nNot tested: {markdown_cell(reason)}.\n" for reason in reasons)
        table = markdown(["claim", "statement", "measured", "verdict"], rows_of)
        sections.append(f"## Claims\n\n{table}\n{said}")
    sections += [
        "## Candidates\n\n" + _candidates(card, rows) + "\n",
        "## Files and settings\n\n" + _settings(card) + "\n",
    ]
    return "\n".join(sections)


def _networks(card: Mapping[str, Any]) -> list[str]:
    return order(list(next(iter(card["per_class"].values()))))


def _before_after(card: Mapping[str, Any]) -> str:
    names = _networks(card)
    lines = []
    for name, metric in metrics_of(card).items():
        values = card["metrics"][name]
        cells = [percent(values[network]) for network in names]
        cells[-1] += metric.error(values["after_se"])
        lines.append([metric.title(), *cells, str(card["measured_on"]["metrics"][name])])
    agreement = [percent(card["agreement"][name]) if name in card["agreement"] else "" for name in names]
    lines.append(["agrees with the repaired %", *agreement, str(card["measured_on"]["images"])])
    return markdown(["", *map(spoken, names), "images"], lines)


def _choice(card: Mapping[str, Any]) -> str:
    rule = card["selection"]["_target_"].rsplit(".", 1)[1].lower()
    chosen = ", ".join(f"{name} = {value:g}" for name, value in card["chosen"].items() if name in LABELS) or ONLY
    spans = ", ".join(f"{low:g} to {high:g}" if low != high else f"{low:g}" for low, high in card["allowed_t"])
    lines = [
        f"Repair {markdown_code(card['repair'])}, rule {markdown_code(rule)} with a margin of "
        f"{percent(card['selection']['margin'])} points and "
        f"{card['selection']['standard_errors']:g} standard error(s) of benefit of the doubt: {chosen}.",
        f"It saw {card['held_out']['images']} held-out clean images only: no trigger and no test image. There the "
        f"networks are right on {' and '.join(map(percent, card['held_out']['ends'].values()))} %; "
        f"less the margin that is {percent(card['better_less_margin'])} %. The chosen one is right on "
        f"{percent(card['chosen']['accuracy'])} %, {percent(card['chosen']['lost'])} ± "
        f"{percent(card['chosen']['lost_se'])} points less than the best network.",
    ]
    if card["rates"]:
        found = [
            [f"{entry['rate']:g}", str(entry["candidates"]), str(entry["allowed"]), percent(entry["best"])]
            for entry in card["rates"]
        ]
        lines.append(markdown(["learning rate", "candidates", "allowed", "best held-out acc %"], found))
    if "t" in card["chosen"]:
        lines.append(f"Allowed t at this learning rate: {spans or 'none'}.")
    return "\n\n".join(lines)


def _per_class(card: Mapping[str, Any]) -> str:
    names = _networks(card)
    counts = card["measured_on"]["classes"]
    lines = [
        [label, *(percent(found[name]) for name in names), str(counts[label])]
        for label, found in card["per_class"].items()
    ]
    return markdown(["class", *map(spoken, names), "images"], lines)


def _reactivation(found: Mapping[str, Mapping[str, float]], images: int) -> str:
    steps = list(next(iter(found.values())))
    lines = [[spoken(name), *(percent(found[name][step]) for step in steps)] for name in order(list(found))]
    text = (
        f"Attack success in %, of {images} images, after so many steps of tuning on a few triggered ones; compare with "
        "the untampered row."
    )
    return f"## Does the backdoor come back?\n\n{text}\n\n{markdown(['network', *steps], lines)}\n"


def _candidates(card: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    measured = metrics_of(card)
    lines = [
        [
            candidate(row),
            percent(row["accuracy"]),
            f"{min(value for name, value in row.items() if name.startswith('from_')):.3f}",
            "yes" if row["allowed"] else "",
            *(percent(row[name]) for name in measured),
            "chosen" if row["chosen"] else "",
        ]
        for row in rows
    ]
    columns = [
        "candidate",
        "held-out acc %",
        "divergence",
        "allowed",
        *(metric.title() for metric in measured.values()),
        "",
    ]
    held = card["held_out"]["images"]
    return f"{markdown(columns, lines)}\n\nHeld-out accuracy and divergence of {held} images, the others as above."


def _settings(card: Mapping[str, Any]) -> str:
    lines = [[f"sha256 {name}", digest] for name, digest in card["sha256"].items()]
    lines += [[f"file of {name}", "; ".join(told)] for name, told in card["read"].items()]
    counts = ", ".join(f"{name} {count}" for name, count in card["of_each_class"].items())
    lines.append(["clean images", f"{card['images']} ({counts})"])
    lines += [[name, str(value)] for name, value in card["settings"].items()]
    for role, found in card["injected"].items():
        text = f"{found['hit']} of {len(found['attacked'])} attacked images hit, {found['kept_same']} of "
        text += (
            f"{len(found['kept'])} kept, {found['weights_changed']} weights of {', '.join(found['tensors'])} changed"
        )
        lines.append([f"injected, {role}", text])
    return markdown(["", ""], lines)
