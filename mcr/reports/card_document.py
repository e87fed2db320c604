"""The repair card as a document. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr.evaluation.table import markdown
from mcr.reports.cards import ONLY, candidate, labels, metrics_of, order, percent, spoken, told
from mcr.reports.claims import Verdict
from mcr.selection.choice import ESTIMATE
from mcr.text import markdown_cell, markdown_code


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
        *([_suspicion(card)] if card["suspicion"] else []),
        *([_transfer(card)] if card["transfer"] else []),
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
    effect = card["metrics"]["effect"]
    if "der" in effect:
        rating = f"{percent(effect['der'])}, {percent(effect['lost'])} points lost"
        lines.append(["defence effectiveness %", *[""] * (len(names) - 1), rating, ""])
    agreement = [percent(card["agreement"][name]) if name in card["agreement"] else "" for name in names]
    lines.append(["agrees with the repaired %", *agreement, str(card["measured_on"]["images"])])
    return markdown(["", *map(spoken, names), "images"], lines)


def _choice(card: Mapping[str, Any]) -> str:
    rule = card["selection"]["_target_"].rsplit(".", 2)[1]
    taken = [f"{name} = {value:g}" for name, value in labels(card["chosen"]).items()]
    chosen = ", ".join(
        [*([card["chosen"]["repair"]] if card["chosen"]["repair"] != card["repair"] else []), *(taken or [ONLY])]
    )
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
    if card["taken"]["how"] == "refitted":
        lines.append(
            f"It was then made once more, in the same way, on all {card['images']} clean images, held-out ones too: "
            "that network is the repaired one. No clean image is left that could show what it lost."
        )
    columns = ["repair", "rate", "candidates", "allowed", "best held-out acc %"]
    estimated = ["least estimated success %"] if told(card) else []
    found = [
        [
            entry["repair"].replace("_", " "),
            "" if entry["rate"] is None else f"{entry['rate']:g}",
            *(str(entry[name]) for name in ("candidates", "allowed")),
            *(percent(entry[name]) for name in ("best", *(["estimated"] if estimated else []))),
        ]
        for entry in card["searched"]
    ]
    lines.append(markdown([*columns, *estimated], found))
    if "t" in card["chosen"]:
        lines.append(f"Allowed t at this learning rate: {spans or 'none'}.")
    return "\n\n".join(lines)


def _suspicion(card: Mapping[str, Any]) -> str:
    """What the signals say, which know no trigger: of the first network, of one from scratch, of the repaired one."""
    lines = [
        [
            name,
            *(f"{value:.3f}" for value in (found["suspect"], found["reference"], card["taken"][f"signal_{name}"])),
            f"{found['contrast']:+.3f}",
        ]
        for name, found in card["suspicion"].items()
    ]
    estimate = (
        f"Estimated share of a hidden attack that is left: **{percent(card['taken'][ESTIMATE])} %** of what the first "
        "network has."
        if told(card)
        else "No estimate: no signal tells the first network from one that was trained from scratch."
    )
    text = (
        f"{estimate} An estimate is the mean over the signals of where the repaired network lies between the first one "
        "(100 %) and one that was trained from scratch on the same clean images (0 %), and no guarantee. A contrast of "
        "0.5 or more under shared perturbations is evidence that the given networks share something hidden, and a "
        "small one clears nobody; the other signals contrast as much for networks in which nothing is hidden."
    )
    first = card["ends"][0]
    table = markdown(["signal", spoken(first), "scratch", "repaired", "contrast"], lines)
    return f"## What the signals say\n\n{text}\n\n{table}\n"


def _transfer(card: Mapping[str, Any]) -> str:
    """Whether the given networks hide the same, as far as what moves one alone shows."""
    tables = []
    for name, found in card["transfer"].items():
        lines = [[spoken(own), *(percent(value) for value in on.values())] for own, on in found.items()]
        columns = [f"{name} of, success % on", *map(spoken, next(iter(found.values())))]
        tables.append(markdown(columns, lines))
    text = (
        "Fitted to one network alone and tried on the others. What moves nearly all images of its own network and few "
        "of another's is not shared by that one; where, moreover, nothing moves the other so far, it may be clean. "
        "Triggers that are laid over the whole image show here, patches and warps do not: a low row clears nobody."
    )
    return "\n\n".join(["## Do the networks hide the same?", text, *tables]) + "\n"


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
    estimated = ["estimated success %"] if told(card) else []
    lines = [
        [
            candidate(row),
            percent(row["accuracy"]),
            f"{min(value for name, value in row.items() if name.startswith('from_')):.3f}",
            *([percent(row[ESTIMATE])] if estimated else []),
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
        *estimated,
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
