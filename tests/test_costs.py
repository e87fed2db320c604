"""What a repair cost, and its card for programs: read from records, and valid by the standard's own schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from torch import nn

from mcr import passes
from mcr.architectures.normalization import Normalized
from mcr.reports import bom, costs
from mcr.stages import context
from mcr.stages.context import Context
from tests.test_repair_reports import card

MADE = {"command": "mcr repair a.pt", "python": "3.11.9", "date": "2026-01-01", "versions": {"mcr": "1", "torch": "2"}}
CONTEXT = Context({"accelerator": "cpu", "devices": 1}, {}, "tests", Path())


def test_passes_are_counted_by_images_and_nowhere_else() -> None:
    network = Normalized(nn.Flatten(), [0.5], [0.5])
    network(torch.zeros(3, 1, 2, 2))
    with passes.counted() as found:
        network(torch.zeros(5, 1, 2, 2))
        with passes.counted() as inner:
            torch.func.functional_call(network, {}, (torch.zeros(7, 1, 2, 2),))
        network(torch.zeros(1, 1, 2, 2))
    network(torch.zeros(11, 1, 2, 2))
    assert (found.images, inner.images) == (6, 7)


def test_a_compiled_network_is_counted_at_every_call() -> None:
    network = Normalized(nn.Flatten(), [0.5], [0.5])
    network.compile(backend="eager")
    with passes.counted() as found:
        for count in (2, 3, 2):
            network(torch.zeros(count, 1, 2, 2))
    assert found.images == 7


def test_a_stage_s_memory_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is forgotten before each: a stage after a large one has not had its memory."""
    peak, status = tmp_path / "clear_refs", tmp_path / "status"
    monkeypatch.setattr(context, "PEAK", peak)
    monkeypatch.setattr(context, "STATUS", status)
    peak.write_text("")
    status.write_text("VmPeak:\t  9000 kB\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n")
    with CONTEXT.spending() as spent:
        assert peak.read_text() == "5"
    assert spent == {"forward_passes": 0, "peak_megabytes": 2}
    status.write_text("Name:\tpython\n")  # a system that does not say
    with CONTEXT.spending() as spent:
        pass
    assert spent == {"forward_passes": 0}


def record(store: Path, stage: str, key: str, needs: dict[str, tuple[str, str]], **spent: float) -> Path:
    folder = store / stage / key
    folder.mkdir(parents=True)
    named = {role: {"stage": name, "key": of} for role, (name, of) in needs.items()}
    (folder / "stage.json").write_text(json.dumps({"key": key, "needs": named, "provenance": spent}))
    return folder


def test_costs_are_summed_by_repair_and_a_shared_stage_counts_once(tmp_path: Path) -> None:
    record(tmp_path, "train", "a", {}, seconds=1.0, forward_passes=10, peak_megabytes=7)
    record(tmp_path, "train", "b", {}, seconds=2.0, forward_passes=20, peak_megabytes=5)
    record(tmp_path, "connect", "c", {}, seconds=4.0)
    record(tmp_path, "choose", "d", {}, seconds=8.0, forward_passes=40, peak_megabytes=9)
    needs = {
        "precheck": ("precheck", "x"),
        "choose": ("choose", "d"),
        "rate tuned well 0.1": ("train", "a"),
        "rate tuned well 0.02": ("train", "b"),
        "reference": ("train", "a"),
        "rate path 0.1": ("connect", "c"),
        "place path 0.1": ("place", "gone"),
        "end 0": ("load", "y"),
    }
    last = record(tmp_path, "card", "e", needs, seconds=16.0, forward_passes=80, peak_megabytes=6)
    rows = {row.pop("of"): row for row in costs.of(last)}
    assert rows == {
        "signals and choice": {"stages": 1, "seconds": 8.0, "forward_passes": 40, "peak_megabytes": 9},
        "tuned well": {"stages": 2, "seconds": 3.0, "forward_passes": 30, "peak_megabytes": 7},
        "from scratch, to compare with": {"stages": 1, "seconds": 1.0, "forward_passes": 10, "peak_megabytes": 7},
        "path": {"stages": 2},  # one of them is gone from the store, and the other says nothing of passes
        "this card": {"stages": 1, "seconds": 16.0, "forward_passes": 80, "peak_megabytes": 6},
        "in all": {"stages": 6},
    }
    record(tmp_path, "choose", "f", {}, seconds=8.0, forward_passes=40, peak_megabytes=9, resumed=True)
    again = record(tmp_path, "card", "g", {"choose": ("choose", "f")}, seconds=1.0)
    assert {row["of"]: row for row in costs.of(again)}["signals and choice"] == {
        "of": "signals and choice",
        "stages": 1,
    }
    (tmp_path / "card.md").write_text("# Card\n")
    (tmp_path / "card.json").write_text("{}")
    costs.add(tmp_path, last)
    assert len(json.loads((tmp_path / "card.json").read_text())["cost"]) == len(rows)
    text = re.sub(" +", " ", (tmp_path / "card.md").read_text())
    assert text.startswith("# Card\n\n## What it cost\n")
    assert "| tuned well | 2 | 3.0 | 30 | 7 |" in text


def test_records_hold_every_pass_of_a_repair(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the forward passes themselves."""
    from mcr.app import run

    seen = []
    forward = Normalized.forward

    def counting(self: Normalized, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Normalized, "forward", counting)
    words = ("repair=finetune", "selection=farthest", "backdoor=none", "ends=regular_regular")
    cfg = config(*words) | {"verb": "repair"}
    run.carry_out(cfg, tmp_path / "run", "tests")
    records = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("*/*/stage.json")]
    told = {record["stage"]: record["provenance"]["forward_passes"] for record in records}
    assert told["data"] == told["split"] == 0
    assert sum(record["provenance"]["forward_passes"] for record in records) == sum(seen)
    found = {row["of"]: row for row in json.loads((tmp_path / "run" / "card.json").read_text())["cost"]}
    trained = [record["provenance"] for record in records if record["key"] in _trained(records)]
    assert found["finetune"]["forward_passes"] == sum(one["forward_passes"] for one in trained) > 0
    # Nothing of it is in the store, where the same recipe gives the same bytes.
    (stored,) = (tmp_path / "store" / "card").glob("*/card.json")
    assert "cost" not in json.loads(stored.read_text())


def _trained(records: list[dict[str, Any]]) -> set[str]:
    (made,) = (record for record in records if record["stage"] == "card")
    return {need["key"] for role, need in made["needs"].items() if role.startswith("rate ")}


# The bill of materials

HASHES = {"start": "a" * 64, "end": "b" * 64, "clean_images": "c" * 64, "cleaned": "d" * 64}
CARDS = [
    card(sha256=HASHES),
    card(sha256=HASHES, warnings=["ünïcode | <b>"], chosen__estimated_success=0.25, suspicion={"masks": {"tells": 1}}),
    card(sha256=HASHES, ends=["start"], title="a network with a name of many words"),
]


@pytest.mark.parametrize("found", CARDS, ids=["plain", "doubtful", "one"])
def test_a_bill_of_materials_is_valid_by_the_standard_s_own_schema(found: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({**found, "made": MADE}))
    bom.write(tmp_path)
    text = (tmp_path / bom.FILE).read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    # Which it says of nothing else:
    assert validator.validate_str(text.replace("SHA-256", "SHA-255")) is not None
    assert validator.validate_str(text.replace("performanceMetrics", "performance")) is not None


def test_a_bill_of_materials_says_what_the_card_says_whenever_it_was_made() -> None:
    first = bom.bom({**CARDS[1], "made": MADE, "cost": [{"seconds": 1.0}]})
    again = bom.bom({**CARDS[1], "made": {**MADE, "date": "2027-07-07"}, "cost": [{"seconds": 2.0}]})
    assert first == again
    assert bom.bom({**CARDS[1], "made": {**MADE, "python": "3.12.0"}})["serialNumber"] != first["serialNumber"]
    component = first["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    ancestors = component["pedigree"]["ancestors"]
    assert {one["name"]: one["hashes"][0]["content"] for one in ancestors} == {"start": "a" * 64, "end": "b" * 64}
    measured = {
        (one["type"], one["slice"]): float(one["value"])
        for one in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    assert measured["accuracy", "repaired"] == 0.895
    assert measured["attack success", "start"] == 0.99
    assert measured["accuracy", "repaired, class cat"] == 0.83
    assert measured["estimated share of a hidden attack that is left", "repaired"] == 0.25
    considerations = component["modelCard"]["considerations"]
    assert considerations["technicalLimitations"] == ["ünïcode | <b>"]
    assert considerations["performanceTradeoffs"] == ["2.0 points of clean accuracy are lost"]
    assert {"name": "mcr:chosen:t", "value": "0.35"} in component["properties"]
    assert (
        "technicalLimitations"
        not in bom.bom({**CARDS[0], "made": MADE})["metadata"]["component"]["modelCard"]["considerations"]
    )
