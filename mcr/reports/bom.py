"""The repair card for programs: a machine-learning bill of materials by the CycloneDX standard (ECMA-424), version 1.6.

The same card made by the same versions gives the same bytes: it has no time stamp, and its serial number is the hash of
its content. No torch.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcr.reports.cards import labels, metrics_of, order, percent, spoken, told
from mcr.selection.choice import ESTIMATE
from mcr.store import identity, jsonfile

FILE = "card.cdx.json"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
ONCE_MORE = {"chosen": "", "refitted": ", made once more on all clean images"}
MODEL, REPAIRED = "machine-learning-model", "repaired"


def write(folder: Path) -> None:
    """Write the bill of materials beside card.json, from it."""
    jsonfile.write(folder / FILE, bom(jsonfile.read(folder / "card.json")))


def bom(card: Mapping[str, Any]) -> dict[str, Any]:
    """The bill of materials of a repaired network.

    The repaired network is the component that it is about: hash of its file, as its pedigree the given networks with
    theirs, and its model card: clean images, measures before and after, warnings.

    Args:
        card: As in card.json of a run, with how it was made (see ``provenance``).
    """
    made, hashes = card["made"], card["sha256"]
    repaired = {
        "type": MODEL,
        "bom-ref": REPAIRED,
        "name": card["title"],
        "hashes": _hashed(hashes["cleaned"]),
        "pedigree": {
            "ancestors": [
                {"type": MODEL, "bom-ref": f"given-{name}", "name": name, "hashes": _hashed(hashes[name])}
                for name in card["ends"]
            ],
            "notes": f"Repaired by {card['chosen']['repair']}: one of {_candidates(card)} candidates, chosen by "
            f"held-out clean images without a trigger{ONCE_MORE[card['taken']['how']]}.",
        },
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "image classification",
                "datasets": [_clean_images(card)],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_performance(card))},
            "considerations": _considerations(card),
        },
        "properties": [_property("command", made["command"]), *_settings(card)],
    }
    versions = {**made["versions"], "Python": made["python"]}
    tools = [{"type": "application", "name": name, "version": version} for name, version in versions.items()]
    content = {"metadata": {"tools": {"components": tools}, "component": repaired}}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, identity.canonical(content))
    head = {"$schema": SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial.urn, "version": 1}
    return {**head, **content}


def _hashed(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _property(name: str, value: Any) -> dict[str, str]:
    return {"name": f"mcr:{name}", "value": value if isinstance(value, str) else identity.canonical(value)}


def _settings(card: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What was chosen, and how it was trained."""
    for name, value in labels(card["chosen"]).items():
        yield _property(f"chosen:{name}", value)
    for name, value in card["settings"].items():
        yield _property(f"setting:{name}", value)


def _candidates(card: Mapping[str, Any]) -> int:
    return sum(entry["candidates"] for entry in card["searched"])


def _clean_images(card: Mapping[str, Any]) -> dict[str, Any]:
    properties = [_property("sha256", card["sha256"]["clean_images"])]
    properties += [_property(f"images of {name}", count) for name, count in card["of_each_class"].items()]
    description = f"{card['images']} clean images, {card['held_out']['images']} of them held out to choose with"
    return {
        "type": "dataset",
        "name": "clean images",
        "description": description,
        "contents": {"properties": properties},
    }


def _performance(card: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Shares of all networks, of the repaired one's classes, and what is estimated, each as a number in [0, 1]."""
    networks = order(list(next(iter(card["per_class"].values()))))
    for name, metric in metrics_of(card).items():
        for network in networks:
            yield {"type": metric.label, "value": repr(card["metrics"][name][network]), "slice": spoken(network)}
    for label, found in card["per_class"].items():
        yield {"type": "accuracy", "value": repr(found["after"]), "slice": f"{REPAIRED}, class {label}"}
    if told(card):
        left = repr(card["taken"][ESTIMATE])
        yield {"type": "estimated share of a hidden attack that is left", "value": left, "slice": REPAIRED}


def _considerations(card: Mapping[str, Any]) -> dict[str, list[str]]:
    lost = f"{percent(card['metrics']['clean_accuracy']['lost'])} points of clean accuracy are lost"
    found = {"performanceTradeoffs": [lost]}
    return {"technicalLimitations": list(card["warnings"]), **found} if card["warnings"] else found
