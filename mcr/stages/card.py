"""Measure a repair and write its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mcr.build import build
from mcr.datasets.augment import to_unit
from mcr.evaluation.summary import standard_error
from mcr.evaluation.table import write_csv
from mcr.progress import bar
from mcr.repairs.bench import Bench
from mcr.reports import cards, figures
from mcr.reports.claims import judge
from mcr.stages.artifacts import (
    CHOICE,
    SPLIT_SUMMARY,
    read_material,
    read_network,
    read_spec,
    read_split,
    write_json,
)
from mcr.stages.context import Context
from mcr.stages.evaluate import triggered
from mcr.stages.exam import Answers, Exam
from mcr.stages.loggers import log_card
from mcr.stages.repair import RATE, make_bench, read_cleaned
from mcr.stages.tamper import injection_report
from mcr.store import Stage
from mcr.training.reactivation import reactivation


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """card.md, card.json, along.csv (the candidates of the chosen learning rate), the figure, summary.json."""
    config, recipe = stage.config, stage.needs["repair"].config
    context.prepare()
    choice = json.loads((inputs["repair"] / CHOICE).read_text())
    chosen = choice["chosen"]
    rate = f"{RATE}{chosen['rate']:g}" if "rate" in chosen else ""
    bench = make_bench(recipe, {k: v for k, v in inputs.items() if not k.startswith(RATE) or k == rate}, context)
    exam = Exam.of(config, recipe, inputs, context.device_name)
    states = {"start": bench.ends[0], "end": bench.ends[1], "after": read_cleaned(inputs["repair"], inputs.get("file"))}
    if stage.needs["given"].key != stage.needs["start"].key:
        states["untampered"] = read_network(inputs["given"])
    answers = {name: exam.ask(_loaded(bench, state)) for name, state in states.items()}
    rows = _along(choice, build(recipe["repair"]), bench, exam, stage.label)
    metrics = _metrics(answers, rows)
    card = {
        "title": config["title"],
        "repair": config["method"],
        "replicate": config["replicate"],
        "images": sum(choice["images"].values()),
        "chosen": chosen,
        "allowed_t": cards.intervals(rows),
        "rates": _rates(choice["candidates"]),
        "measured_on": {"images": len(exam.test), "which": exam.source},
        "metrics": metrics,
        "per_class": exam.per_class(answers, read_spec(inputs["data"]).classes),
        "agreement": {
            name: float((answers["after"].predictions == answers[name].predictions).double().mean())
            for name in ("start", "end")
        },
        "reactivation": _reactivation(stage, inputs, bench, states, exam),
        **{name: choice[name] for name in ("kept", "better_less_margin", "selection", "of_each_class", "sha256")},
        "held_out": {"images": choice["images"]["held_out"], **choice["ends"]},
        "injected": {role: found for role in ("start", "end") if (found := injection_report(inputs[role]))},
        "settings": {**recipe["repair"], **_trained_with(stage, rate), "one_model": _copied(stage)},
    }
    card["warnings"] = cards.warnings(card)
    verdicts = [judge(claim, metrics) for claim in config["claims"] if _about(claim, config["method"])]
    claims = [vars(verdict) for verdict in verdicts if verdict is not None]
    figure = figures.card_figure(rows, card)
    figures.save(figure, folder, "figure", config["report"]["formats"], config["report"]["dpi"])
    write_csv(folder / "along.csv", rows)
    write_json(folder / "card.json", card)
    (folder / "card.md").write_text(cards.document(card, rows, claims))
    kept = (
        "title",
        "repair",
        "replicate",
        "images",
        "chosen",
        "allowed_t",
        "metrics",
        "agreement",
        "reactivation",
        "warnings",
    )
    write_json(folder / "summary.json", {"kind": "repair", **{name: card[name] for name in kept}, "claims": claims})
    log_card(stage, context, metrics, rows, figure)


def _about(claim: Mapping[str, Any], method: str) -> bool:
    """Whether a claim is about this repair alone; one against another method is for the report of a sweep."""
    return "against" not in claim and claim.get("repair") == method


def _loaded(bench: Bench, state: Mapping[str, Tensor]) -> nn.Module:
    bench.network.load_state_dict(state)
    return bench.network


def _metrics(answers: Mapping[str, Answers], rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Metric to network to its mean, and its range over the candidates; what the repair lost; standard errors.

    Under "candidates", the share of them that a known attack would call repaired: at least nine tenths of the start's
    accuracy, and the attack at most one time in ten.
    """
    found = {
        metric: {who: float(given.hits[metric].mean()) for who, given in answers.items()}
        for metric in answers["after"].hits
    }
    for metric, values in found.items():
        values["after_se"] = standard_error(answers["after"].hits[metric].numpy())
        seen = [row[metric] for row in rows]
        values |= {"lowest": min(seen), "highest": max(seen)}
    clean = found["clean_accuracy"]
    clean["lost"] = max(clean["start"], clean["end"]) - clean["after"]
    if "untampered" in clean:
        clean["lost_to_untampered"] = clean["untampered"] - clean["after"]
        clean["start_below_untampered"] = clean["untampered"] - clean["start"]
    attack = next((name for name in ("attack_success", "injection_success") if name in found), None)
    if attack is not None:
        good = [row["clean_accuracy"] >= 0.9 * clean["start"] and row[attack] <= 0.1 for row in rows]
        found["candidates"] = {"repaired": sum(good) / len(good)}
    return found


def _along(choice: Mapping[str, Any], method: Any, bench: Bench, exam: Exam, label: str) -> list[dict[str, Any]]:
    """The candidates of the chosen learning rate: what the choice saw, and what the card measures."""
    seen = {_name(candidate): candidate for candidate in choice["candidates"]}
    chosen = _name(choice["chosen"])
    count = sum("rate" not in found or found["rate"] == choice["chosen"]["rate"] for found in choice["candidates"])
    rows = []
    with bar(label, count, "candidates") as progress:
        for candidate, network in method.candidates(bench):
            means = {name: float(values.mean()) for name, values in exam.ask(network).hits.items()}
            name = _name(candidate)
            rows.append({**seen[name], "chosen": name == chosen, **means})
            progress.reach(len(rows), f"clean {means['clean_accuracy']:.3f}")
    return rows


def _rates(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """For each learning rate: how many candidates it gave, how many were allowed, the best held-out accuracy."""
    rates = dict.fromkeys(found["rate"] for found in candidates if "rate" in found)
    members = {rate: [found for found in candidates if found["rate"] == rate] for rate in rates}
    return [
        {
            "rate": rate,
            "candidates": len(found),
            "allowed": sum(entry["allowed"] for entry in found),
            "best": max(entry["accuracy"] for entry in found),
        }
        for rate, found in members.items()
    ]


def _name(candidate: Mapping[str, float]) -> tuple[float | None, ...]:
    return tuple(candidate.get(label) for label in cards.LABELS)


def _reactivation(
    stage: Stage, inputs: dict[str, Path], bench: Bench, states: Mapping[str, Mapping[str, Tensor]], exam: Exam
) -> dict[str, dict[str, float]]:
    """Network to steps to attack success; nothing where no trigger is known or the test is left out.

    The few triggered images are validation images, or clean ones where there is no validation split.
    """
    config, part, recipe = stage.config, stage.config["card"]["reactivation"], stage.needs["repair"].config
    counts = json.loads((inputs["split"] / SPLIT_SUMMARY).read_text())
    if "attack_success" not in exam.hits or not part["images"]:
        return {}
    spec, device = read_spec(inputs["data"]), str(exam.clean.images.device)
    if counts["validation"]:
        images = read_split(inputs, "validation", device)
    else:
        images, _ = read_material(inputs, recipe["material"], device)
    few = triggered(config, images, len(spec.classes))
    if not len(few.labels):
        return {}
    batch = (to_unit(few.images[: part["images"]], recipe["memory_format"]), few.labels[: part["images"]])
    found = {}
    for name, state in states.items():
        network = _loaded(bench, state)
        found[name] = reactivation(network, batch, exam.hits["attack_success"], part["steps"], part["rate"])
    return {name: {str(steps): value for steps, value in values.items()} for name, values in found.items()}


def _trained_with(stage: Stage, rate: str) -> dict[str, Any]:
    """Steps, batch size and learning rate of what was trained, and how many rates were tried."""
    if not rate:
        return {}
    recipe = stage.needs[rate].config["recipe"]
    tried = [float(role.removeprefix(RATE)) for role in stage.needs if role.startswith(RATE)]
    return {
        "steps": recipe["steps"],
        "batch_size": recipe["batch_size"],
        "learning_rate": recipe["optimizer"]["lr"],
        "learning_rates_tried": sorted(tried),
    }


def _copied(stage: Stage) -> bool:
    """Whether the second network was made from the first."""
    end = stage.needs["end"]
    return "init" in end.needs and end.needs["init"].key == stage.needs["start"].key
