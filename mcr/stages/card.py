"""Measure a repair and write its card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mcr.evaluation.table import write_csv
from mcr.repairs.bench import Bench
from mcr.reports import card_document, cards, figures, repair_figures, soundness
from mcr.reports.soundness import End, Score
from mcr.stages import ends, own_images, verdicts
from mcr.stages.artifacts import (
    CHOICE,
    CLEANED,
    PRECHECK,
    REFITTED,
    SUMMARY,
    TOLD,
    read_network,
    read_spec,
)
from mcr.stages.candidates import along, searched
from mcr.stages.choose import PLACE, RATE, make_benches, read_cleaned
from mcr.stages.context import Context
from mcr.stages.injected import injection_report
from mcr.stages.reactivated import reactivated
from mcr.stages.scorecard import Answers, Scorecard, measured
from mcr.stages.suspects import REFERENCE, Suspects
from mcr.store import jsonfile
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.weightspace.states import load_state


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """card.md, card.json, along.csv (the chosen repair's candidates of its learning rate), the figure, summary.json."""
    config, recipe = stage.config, stage.needs["choose"].config
    context.prepare()
    choice = jsonfile.read(inputs["choose"] / CHOICE)
    chosen = choice["chosen"]
    trained = f"{chosen['repair']} {chosen['rate']:g}" if "rate" in chosen else ""  # by whom, and with which rate
    unused = [role for role in inputs if role.startswith((RATE, PLACE)) and role.split(" ", 1)[1] != trained]
    used = {role: place for role, place in inputs.items() if role not in unused}
    bench = make_benches(stage, recipe, used, context)[chosen["repair"]]
    suspects = Suspects.of(recipe, inputs, bench, context)
    scorecard = Scorecard.of(config, recipe, inputs, context)
    taken = inputs.get("refit", inputs["choose"])
    states = {**bench.ends, "after": read_cleaned(taken, inputs.get("file"))}
    if stage.needs["untampered"].key != stage.needs["end 0"].key:
        states["untampered"] = read_network(inputs["untampered"])
    tuned = dict(states)  # a network from scratch says nothing about how fast a backdoor comes back
    if REFERENCE in inputs:
        states["scratch"] = read_network(inputs[REFERENCE])
    answers = {name: scorecard.ask(_loaded(bench, state)) for name, state in states.items()}
    rows = along(choice, build(recipe["repairs"][chosen["repair"]]), bench, scorecard, stage.label)
    metrics = measured(answers, rows, recipe["ends"], config["card"]["repaired"])
    spec = read_spec(inputs["data"])
    networks = _ends(stage, answers, len(spec.classes))
    doubts = soundness.doubts(networks, config["soundness"])
    stopped = ends.stopped(_trainings(stage, inputs, trained))
    card = {
        "title": config["title"],
        "repair": config["method"],
        "replicate": config["replicate"],
        "images": sum(choice["images"].values()),
        "chosen": chosen,
        "taken": {"how": "refitted", **jsonfile.read(taken / REFITTED)}
        if "refit" in inputs
        else {"how": "chosen", **chosen},
        "allowed_t": cards.intervals(rows),
        "searched": searched(choice["candidates"]),
        "measured_on": {
            "images": len(scorecard.labels),
            "which": scorecard.source,
            "chose": scorecard.chose,
            "metrics": {name: len(values) for name, values in answers["after"].values.items()},
            "classes": scorecard.class_counts(spec.classes),
        },
        "metrics": metrics,
        "per_class": scorecard.per_class(answers, spec.classes),
        "transfer": suspects.transfer(config["card"]["transfer"], recipe["seed"]) if suspects else {},
        "agreement": {
            name: float((answers["after"].predictions == answers[name].predictions).double().mean())
            for name in bench.ends
        },
        "reactivation": reactivated(stage, inputs, bench, context, tuned, scorecard),
        **{name: choice[name] for name in ("kept", "better_less_margin", "selection", "suspicion", "of_each_class")},
        "sha256": {**choice["sha256"], "cleaned": hashlib.sha256((taken / CLEANED).read_bytes()).hexdigest()},
        "held_out": {"images": choice["images"]["held_out"], "ends": choice["ends"]},
        "injected": {
            name: found
            for index, name in enumerate(recipe["ends"])
            if (found := injection_report(inputs[f"end {index}"]))
        },
        "read": _read(inputs, recipe["ends"]),
        "ends": recipe["ends"],
        "descriptions": {name: asdict(metric) for name, metric in scorecard.metrics.items()},
        "warn": config["card"]["warn"],
        "settings": {
            **recipe["repairs"][chosen["repair"]],
            **_trained_with(stage, f"{RATE}{trained}" if trained else ""),
            "one_model": _copied(stage),
        },
    }
    card |= {"stopped": stopped, "doubts": [vars(doubt) for doubt in doubts]}
    card["networks"] = [asdict(network) for network in networks]
    checked = jsonfile.read(inputs["precheck"] / PRECHECK)["warnings"]
    own = own_images.warnings(inputs) if "fingerprint" in stage.needs["data"].config["dataset"] else []
    card["warnings"] = [*checked, *stopped, *soundness.warnings(doubts), *cards.warnings(card), *own]
    claims = [claim for claim in config["claims"] if _about(claim, config["method"])]
    judged = verdicts.of_card(claims, metrics, doubts, recipe["ends"])
    figure = repair_figures.card_figure(rows, card)
    figures.save(figure, folder, "figure", config["report"]["formats"], config["report"]["dpi"])
    write_csv(folder / "along.csv", rows)
    jsonfile.write(folder / "card.json", card)
    (folder / "card.md").write_text(card_document.document(card, rows, judged), encoding="utf-8")
    kept = (
        "title",
        "repair",
        "replicate",
        "images",
        "chosen",
        "taken",
        "allowed_t",
        "ends",
        "descriptions",
        "metrics",
        "suspicion",
        "transfer",
        "agreement",
        "reactivation",
        "warnings",
        "stopped",
        "doubts",
        "networks",
        "measured_on",
    )
    summary = {"kind": "repair", **{name: card[name] for name in kept}, "claims": [vars(verdict) for verdict in judged]}
    jsonfile.write(folder / SUMMARY, summary)


def _ends(stage: Stage, answers: Mapping[str, Answers], classes: int) -> list[End]:
    """The networks that were given."""
    kinds = {"clean_accuracy": "clean", "attack_success": soundness.BACKDOOR, "injection_success": soundness.ERRORS}
    found = []
    for index, name in enumerate(stage.needs["choose"].config["ends"]):
        values = answers[name].values
        scores = [
            Score(kind, metric, float(values[metric].mean()), len(values[metric]))
            for metric, kind in kinds.items()
            if metric in values
        ]
        found.append(ends.end(name, stage.needs[f"end {index}"], stage.config["probes"], classes, tuple(scores)))
    return found


def _trainings(stage: Stage, inputs: Mapping[str, Path], trained: str) -> dict[str, Path]:
    """All trainings that the card's numbers follow from, by their roles: those of the ends, and the chosen repair."""
    found = {role: place for role, place in inputs.items() if role.startswith(ends.TRAININGS)}
    role = f"{RATE}{trained}"
    return {**found, **({f"{ends.TRAININGS}{stage.needs[role].label}": inputs[role]} if trained else {})}


def _about(claim: Mapping[str, Any], method: str) -> bool:
    """Whether a claim is about this repair alone; one against another method is for the report of a sweep."""
    return "against" not in claim and claim.get("repair") == method


def _read(inputs: Mapping[str, Path], ends: Sequence[str]) -> dict[str, list[str]]:
    """Name of each network that came from a user's file to what was read there and what not, where that needs words."""
    folders = {name: inputs[f"end {index}"] for index, name in enumerate(ends)}
    if "file" in inputs:  # of the first, even where it was edited
        folders[ends[0]] = inputs["file"]
    files = {name: folder / TOLD for name, folder in folders.items() if (folder / TOLD).is_file()}
    found = {name: jsonfile.read(file) for name, file in files.items()}
    return {name: told for name, told in found.items() if told}


def _loaded(bench: Bench, state: Mapping[str, Tensor]) -> nn.Module:
    load_state(bench.network, state)
    return bench.network


def _trained_with(stage: Stage, role: str) -> dict[str, Any]:
    """Steps, batch size and learning rate of what was trained, and how many rates were tried."""
    if not role:
        return {}
    recipe = stage.needs[role].config["recipe"]
    by = role.rsplit(" ", 1)[0]
    tried = [float(one.removeprefix(by)) for one in stage.needs if one.rsplit(" ", 1)[0] == by]
    return {
        "steps": recipe["steps"],
        "batch_size": recipe["batch_size"],
        "learning_rate": recipe["optimizer"]["lr"],
        "learning_rates_tried": sorted(tried),
    }


def _copied(stage: Stage) -> bool:
    """Whether the second network was made from the first."""
    end = stage.needs["end 1"]
    return "init" in end.needs and end.needs["init"].key == stage.needs["end 0"].key
