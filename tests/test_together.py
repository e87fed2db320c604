"""Networks that are trained at once, as the corners of one subspace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.stages import model
from mcr.stages.artifacts import read_network, read_spec
from mcr.weightspace import files


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


def test_fresh_networks_are_what_a_training_begins_with(make, config) -> None:
    made = make("ends=three_together", goal="train")
    spec, cfg = read_spec(made["data"][0]), config("ends=three_together")
    trained = pipeline.plan(config(), "")["train"]  # of the same recipe, each network by itself
    for name, stage in zip(("start", "end"), trained, strict=True):
        expected = model.make({key: cfg[key] for key in ("architecture", "normalization")}, spec, stage.config["seed"])
        assert not differing(read_network(made[f"draw {name}"][0]), expected.state_dict())


def test_the_corners_are_those_of_one_training(make) -> None:
    made = make("ends=three_together", goal="train")
    whole = made["trained together"][0]
    corners = [read_network(made[f"extract {name}"][0]) for name in ("start", "end", "third")]
    for index, corner in enumerate(corners):
        saved = files.load(whole / f"end_{index}.safetensors")
        assert not differing(corner, {f"network.{name}": tensor for name, tensor in saved.items()})
        assert differing(corner, read_network(made[f"draw {('start', 'end', 'third')[index]}"][0]))
    assert differing(corners[0], corners[1])


def test_a_flat_subspace_is_the_blend_of_its_corners_and_a_bent_one_is_measured_too(config) -> None:
    flat = pipeline.plan(config("ends=three_together"), "")["report"][0]
    assert {role.split("/")[0] for role in flat.needs if "/" in role} == {"path"}
    words = [f"+edit@endpoints.{name}.edits.together=together" for name in ("start", "end")]
    words += [f"endpoint@endpoints.{name}=fresh" for name in ("start", "end")]
    bent = pipeline.plan(config(*words), "")["report"][0]
    assert {role.split("/")[0] for role in bent.needs if "/" in role} == {"path", "whole"}
    assert bent.config["labels"]["whole"] == "trained together"


def test_a_penalty_is_part_of_the_recipe_where_something_is_fitted(config) -> None:
    def whole(*words: str) -> Any:
        trained = pipeline.plan(config("ends=three_together", *words), "")["train"]
        return trained[0].needs["path"]

    assert whole().config["penalty"] == {"_target_": "mcr.penalties.cosine.Cosine", "weight": 1.0}
    assert "penalty" not in whole("penalty=none").config
    assert "penalty" not in pipeline.plan(config(), "")["connect"][0].config
    with pytest.raises(InputError, match="penalty=none"):
        pipeline.plan(config("curve=linear", "penalty=cosine"), "")
