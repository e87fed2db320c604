"""Jobs of a sweep in processes that a launcher starts."""

from __future__ import annotations

import re
from pathlib import Path

import cloudpickle
import pytest
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

from mcr.app.overrides import register_resolvers
from tests.conftest import TINY
from tests.processes import fresh

WORDS = [*TINY, "logger=none", "replicate=0,1", "paths.root=tmp"]


@pytest.mark.parametrize(
    "launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local"]], ids=lambda all: all[0]
)
def test_a_launcher_of_the_extra_runs_both_jobs_of_a_sweep(launcher: list[str], tmp_path: Path) -> None:
    words = ["-m", "train", *WORDS, f"hydra/launcher={launcher[0]}", *launcher[1:]]
    done = fresh(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    networks = list((tmp_path / "tmp" / "store" / "train").glob("[!.]*/network.safetensors"))
    assert len(networks) == 4  # two ends of each replicate
    assert len(list((tmp_path / "tmp" / "store" / "data").glob("[!.]*/stage.json"))) == 1
    if launcher[0] == "joblib":  # the other one's jobs have log files of their own
        of_stages = [line for line in (done.stdout + done.stderr).splitlines() if re.search("train (start|end) ", line)]
        assert {line[:3] for line in of_stages} == {"0: ", "1: "}


def test_every_resolver_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    register_resolvers()
    for number in (0, 1):
        (tmp_path / f"class{number}").mkdir()
        (tmp_path / f"class{number}" / "0.png").write_bytes(bytes([number]))
    (tmp_path / "file").write_text("12")
    words = OmegaConf.create(
        {"file": f"${{weights_digest:{tmp_path}/file}}", "folder": f"${{folder_fingerprint:{tmp_path}}}"}
    )
    here = OmegaConf.to_container(words, resolve=True)
    # As Hydra sends it: with the instances of its own, and all the resolvers.
    sent = cloudpickle.loads(cloudpickle.dumps(Singleton.get_state()))
    assert {"weights_digest", "folder_fingerprint", "tiny_imagenet_fingerprint"} <= set(sent["omegaconf_resolvers"])
    state = Singleton.get_state()
    try:
        Singleton.set_state(sent)
        assert OmegaConf.to_container(words, resolve=True) == here
    finally:
        Singleton.set_state(state)
