"""A network at a point of a finished run, as a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import mcr
from mcr.app import cli, run
from mcr.errors import InputError
from mcr.stages import artifacts, model, session
from mcr.weightspace import files
from tests.conftest import TINY
from tests.contracts.test_readme import COMMANDS

WORDS = (*(word for word in TINY if not word.startswith("architecture")), "architecture=small_vgg")
WORDS += ("dataset.image_size=16", "evaluation.batchnorm_images=50")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request_for) -> Path:
    """The folder of a run up to its places: a network with BatchNorm."""
    root = tmp_path_factory.mktemp("export")
    cfg = request_for(*WORDS, f"paths.root={root}", verb="evaluate").jobs[0].config
    run.carry_out(cfg, root / "run", "tests")
    return root / "run"


def export(*words: object) -> dict[str, torch.Tensor]:
    assert cli.dispatch(["export", *map(str, words)]) == 0
    return files.load(Path(str(words[-1])))


def fresh_network(run: Path) -> torch.nn.Module:
    cfg = {name: artifacts.jsonfile.read(run / "stages/train-start/stage.json")["config"][name] for name in PARTS}
    return model.make(cfg, artifacts.read_spec(run / "stages" / "data"), "other").network


PARTS = ("architecture", "normalization")


@pytest.mark.parametrize("name", ["path", "straight"])
def test_a_network_on_the_grid_has_the_bytes_of_the_place_stage(finished: Path, name: str, tmp_path: Path) -> None:
    found = export(finished, "t=0.5", f"of={name}", tmp_path / "middle.safetensors")
    places, statistics = session.read_places(finished / "stages" / f"place-{name}")
    kept = statistics[places.flatten().tolist().index(0.5)]
    assert len(kept) > 10
    for key, value in kept.items():
        assert torch.equal(found[key.removeprefix(artifacts.PREFIX)], value), key
    space = mcr.Subspace.of_run(finished, name)
    expected = space.at(0.5).network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_a_network_between_them_is_that_of_the_library_and_loads_anywhere(finished: Path, tmp_path: Path) -> None:
    line = next(line for line in COMMANDS if line.startswith("mcr export "))
    _, _, run_folder, place, file = line.split()
    assert (run_folder, place, file) == ("multirun/runs/TIME", "t=0.5", "middle.safetensors")
    assert export(finished, place, tmp_path / file)
    (tmp_path / file).unlink()
    found = export(finished, "t=0.3", tmp_path / "a.safetensors")
    expected = mcr.Subspace.of_run(finished).at(0.3).network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    other = export(finished, "t=0.7", tmp_path / "b.safetensors")
    assert not all(torch.equal(value, other[key]) for key, value in found.items())
    strict, loaded = fresh_network(finished), fresh_network(finished)
    strict.load_state_dict(found, strict=True)
    mcr.load(tmp_path / "a.safetensors", loaded)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(strict.eval()(images), loaded.eval()(images))
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["t=0.5", "there.safetensors"], "there already, and is not overwritten"),
        (["t=1.5", "new.safetensors"], r"u=\[1.5\] is no place"),
        (["t=nan", "new.safetensors"], "is no place"),
        (["t=half", "new.safetensors"], "t=half is no number"),
        (["u=0.2", "v=0.7", "new.safetensors"], "a place of .* is t=NUMBER, given is u=0.2, v=0.7"),
        (["new.safetensors"], "given is nothing"),
        (["t=0.5", "t=0.7", "new.safetensors"], "t is given twice"),
        (["t=0.5"], "a run's folder, a place and a file"),
        (["t=0.5", "new.pt"], "name it new.safetensors"),
        (["t=0.5", "nowhere/new.safetensors"], "there is no folder nowhere"),
        (["t=0.5", "of=strait", "new.safetensors"], "no places of a subspace strait"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_nothing_is_written(
    words, expected: str, finished: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match=expected) as caught:
        export(finished, *words)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["there.safetensors"]
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_of_no_run_and_of_a_damaged_store_nothing_is_exported(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is it the folder of a run"):
        export(tmp_path, "t=0.5", tmp_path / "a.safetensors")
    control = finished / "stages" / "connect-path" / "control.safetensors"
    whole = control.read_bytes()
    control.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(InputError, match=r"is damaged: control\.safetensors is not what was written"):
            export(finished, "t=0.5", tmp_path / "a.safetensors")
    finally:
        control.write_bytes(whole)
    assert not list(tmp_path.iterdir())


def test_a_place_of_a_surface_has_two_coordinates(request_for, tmp_path: Path) -> None:
    words = (*TINY, "ends=four_regular", "evaluation.grid=[[0.25,0.75]]", f"paths.root={tmp_path}")
    run.carry_out(request_for(*words, verb="evaluate").jobs[0].config, tmp_path / "run", "tests")
    found = export(tmp_path / "run", "u=0.25", "v=0.75", tmp_path / "a.safetensors")
    expected = mcr.Subspace.of_run(tmp_path / "run").at([0.25, 0.75]).network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    turned = export(tmp_path / "run", "v=0.25", "u=0.75", tmp_path / "b.safetensors")
    assert not all(torch.equal(value, turned[key]) for key, value in found.items())
