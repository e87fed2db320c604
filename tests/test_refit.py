"""The chosen repair made once more on all clean images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mcr.app import run
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.reports import card_document, repair_figures
from mcr.stages import session
from mcr.stages.context import Context
from mcr.store.store import Store
from tests.test_golden import NORMED, PATCH
from tests.test_repair_reports import candidates, card, lines_of

WORDS = (
    *(*NORMED, *PATCH, "ends=backdoored", "card.reactivation.images=0", "repair.budget.rates=[0.02,0.1]"),
    *("repair.budget.steps=6", "repair.budget.batch_size=16", "selection=farthest", "suspicion.images=20"),
)


@pytest.fixture
def made(tmp_path: Path, request_for: Any) -> Any:
    """Carry a repair out: its card's stage, and what finds or makes the folder of any stage."""

    def carry(*words: str) -> Any:
        cfg = request_for(*WORDS, *words, f"paths.root={tmp_path}", verb="repair").jobs[0].config
        store, context = Store(cfg["paths"]["store"]), Context(cfg["runtime"], cfg["logger"], "tests", tmp_path)

        def folder(stage: Any) -> Path:
            for _ in pipeline.make([stage], store, context):
                pass
            return store.folder(stage)

        goal = pipeline.plan(cfg, run.title(cfg))["repair"][0]
        folder(goal)
        return goal, folder, context

    return carry


def twin(stage: Any) -> Any:
    """The training that a repair would have if no image was held out."""
    return replace(stage, config={**stage.config, "material": {**stage.config["material"], "held_out": 0}})


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_tuned_network_is_the_one_that_all_images_give(made: Any) -> None:
    goal, folder, _ = made("repair=finetune")
    refit, choice = folder(goal.needs["refit"]), json.loads((folder(goal.needs["choose"]) / "choice.json").read_text())
    trained = goal.needs[f"rate finetune {choice['chosen']['rate']:g}"]
    found = load_file(refit / "network.safetensors")
    assert same(found, load_file(folder(twin(trained)) / "network.safetensors"))
    assert not same(found, load_file(folder(trained) / "network.safetensors"))
    assert sorted(file.name for file in refit.iterdir()) == [
        *("cleaned.safetensors", "network.safetensors", "refitted.json", "stage.json")
    ]
    told = json.loads((folder(goal) / "card.json").read_text())
    assert told["taken"]["how"] == "refitted"
    assert told["taken"]["estimated_success"] == json.loads((refit / "refitted.json").read_text())["estimated_success"]
    assert told["chosen"] == choice["chosen"]


def test_a_point_of_a_path_is_the_same_point_of_the_path_through_all_images(made: Any) -> None:
    goal, folder, context = made("repair=path_point", "repair.grid=5")
    chosen = json.loads((folder(goal.needs["choose"]) / "choice.json").read_text())["chosen"]
    name = f"path_point {chosen['rate']:g}"
    connect, place = twin(goal.needs[f"rate {name}"]), twin(goal.needs[f"place {name}"])
    place = replace(place, needs={**place.needs, "subspace": connect})
    inputs = {role: folder(stage) for role, stage in place.needs.items()}
    space = session.subspace(place.config, inputs, inputs["subspace"], context)
    places, statistics = session.read_places(folder(place))
    index = places[:, 0].tolist().index(chosen["t"])
    network = space.at_with(places[index], statistics[index])
    found = load_file(folder(goal.needs["refit"]) / "network.safetensors")
    expected = {name.removeprefix("network."): tensor for name, tensor in network.state_dict().items()}
    assert same(found, {name: expected[name] for name in found})
    assert len(found) > 10


def test_repairs_that_are_watched_on_held_out_images_are_refused(request_for: Any) -> None:
    for words in (("repair.budget.keep=best",), ("repair.budget.patience=2",)):
        cfg = request_for(*WORDS, *words, verb="repair").jobs[0].config
        with pytest.raises(InputError, match="taken=chosen"):
            pipeline.plan(cfg, "")


def test_a_card_says_that_the_repaired_network_was_made_once_more() -> None:
    told = card(taken={"how": "refitted", "estimated_success": 0.1})
    assert "made once more, in the same way, on all 2500 clean images" in card_document.document(told, candidates(), [])
    assert "once more" not in card_document.document(card(), candidates(), [])
    (axis,) = repair_figures.card_figure(candidates(), told).axes
    (stars,) = axis.collections
    after = [100 * told["metrics"][name]["after"] for name in ("clean_accuracy", "attack_success")]
    assert [list(point) for point in stars.get_offsets()] == [[0.35, value] for value in after]
    assert "made once more, on all images" not in lines_of(repair_figures.card_figure(candidates(), card()).axes[0])
