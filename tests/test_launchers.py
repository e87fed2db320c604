"""Jobs of a sweep in processes that a launcher starts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cloudpickle
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.singleton import Singleton
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from mcr.app import launching
from mcr.app.composition import Composer
from mcr.app.overrides import parse_arguments, register_resolvers
from mcr.errors import InputError
from tests.conftest import TINY
from tests.processes import fresh

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
    "ray": ["hydra/launcher=ray"],
}
FACTORS = ["curve=linear,bezier", "attack.eps=2/255,8/255"]


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a sweep whose jobs ran one after the other."""
    return tables("basic", tmp_path_factory.mktemp("alone"))


def tables(launcher: str, folder: Path) -> dict[str, bytes]:
    """The tables of a sweep, joint and of each job, by name."""
    words = ["-m", *TINY, *FACTORS, "logger=none", "paths.root=tmp", *LAUNCHERS[launcher]]
    # Ray keeps a token in the home folder and its sockets below a short path.
    done = fresh(*words, folder=folder, HOME=str(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    if launcher == "joblib":  # jobs of the others have log files of their own, or names before their lines
        of_stages = [line for line in (done.stdout + done.stderr).splitlines() if re.search("train (start|end) ", line)]
        assert {line[:3] for line in of_stages} <= {"0: ", "1: ", "2: ", "3: "}
    store = folder / "tmp" / "store"
    assert len(list(store.glob("train/[!.]*/network.safetensors"))) == 2  # ends that all jobs share, trained once
    assert len(list(store.glob("data/[!.]*/stage.json"))) == 1
    assert not list(store.glob("*/.partial*"))
    (sweep,) = (folder / "tmp" / "sweeps").iterdir()
    return {str(path.relative_to(sweep)): path.read_bytes() for path in sorted(sweep.rglob("*.csv"))}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [name for name in LAUNCHERS if name != "basic"])
def test_jobs_of_a_sweep_have_the_same_tables_under_every_launcher(launcher: str, alone, tmp_path: Path) -> None:
    if launcher == "ray":  # needs another cloudpickle than joblib: an environment of its own
        pytest.importorskip("ray")
    found = tables(launcher, tmp_path)
    assert len(found) > 10
    assert found == alone


SWEPT = ("ends=aligned,robust_aligned", "replicate=0")


@pytest.mark.parametrize(
    ("words", "varied"),
    [
        ((*SWEPT, "curve=linear", "endpoints.start.epochs=1"), {}),
        (
            (*SWEPT, "endpoints.end.edits.align.tries=2", "edit@endpoints.end.edits.align=match_weights"),
            {
                "endpoints.end.edits.align.tries=2": "endpoints.end.edits.align.tries=choice(2)",
                "edit@endpoints.end.edits.align=match_weights": "edit@endpoints.end.edits.align=choice(match_weights)",
            },
        ),
        (("ends=aligned", "endpoints.end.edits.align.tries=2", "replicate=0,1"), {}),
    ],
    ids=["all fit", "an edit of swept ends", "an edit of the only ends"],
)
def test_words_that_fit_only_beside_a_swept_value_are_swept_as_well(words, varied, request_for) -> None:
    request = request_for("-m", *words)
    assert request.swept
    assert list(request.given) == [varied.get(word, word) for word in words]
    assert request.words == words


@pytest.mark.parametrize("value", ["${replicate},3", "${replicate}"])
def test_a_sweep_of_an_experiment_over_another_setting_is_refused(value: str, tmp_path: Path, request_for) -> None:
    """Hydra would read it once: replicate=0 in every job, and no word of it."""
    (tmp_path / "experiment").mkdir()
    swept = {"params": {"fit.epochs": value, "replicate": "0,1"}}
    text = yaml.safe_dump({"hydra": {"mode": "MULTIRUN", "sweeper": swept}})
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    with pytest.raises(InputError, match=r"hydra\.sweeper\.params\.fit\.epochs refers to another setting"):
        request_for("experiment=mine", "--config-dir", str(tmp_path))
    # On a command line it is read in each job.
    request = request_for("-m", "fit.epochs='${replicate}'", "replicate=2,3")
    assert [job.config["fit"]["epochs"] for job in request.jobs] == [2, 3]


def test_an_interpolation_in_a_defaults_list_is_composed_as_hydra_does(tmp_path: Path) -> None:
    files = {
        "config": "defaults: [db: a, server: x, pair: '${db}_${server}', _self_]",
        "db/a": "n: 1",
        "db/b": "n: 2",
        "server/x": "m: 3",
        "pair/a_x": "both: 4",
        "pair/b_x": "both: 5",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    for words, both in (([], 4), (["db=b"], 5)):
        with Composer(tmp_path, parse_arguments([])) as composer:
            found = composer.compose(words).config
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            assert found == compose("config", overrides=words)
        assert found.pair.both == both


@pytest.mark.slow
def test_a_sweep_over_ends_takes_an_edit_that_not_all_ends_have(tmp_path: Path) -> None:
    words = ["ends=aligned,robust_aligned", "endpoints.end.edits.align.tries=2", "debug=default", "logger=none"]
    done = fresh("-m", "train", *words, "paths.root=tmp", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    (sweep,) = (tmp_path / "tmp" / "sweeps").iterdir()
    assert [(sweep / job / ".hydra" / "overrides.yaml").is_file() for job in "012"] == [True, True, False]


KILLER = """
import os
import signal

from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, num_classes))
        self.width = width

    def forward(self, images):
        # In a worker's training, not where the command looks at the network first.
        if self.width == 2 and "loky" in open("/proc/self/cmdline").read() and len(images) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_own_job_alone(tmp_path: Path) -> None:
    (tmp_path / "my_killer.py").write_text(KILLER)
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_killer.Net", "+architecture.width=1,2,3,4", "logger=none", "paths.root=tmp"]
    done = fresh("-m", *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", folder=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    (sweep,) = (tmp_path / "tmp" / "sweeps").iterdir()
    assert (sweep / "summary.json").is_file(), done.stderr[-4000:]
    joint = json.loads((sweep / "summary.json").read_text())
    assert [job["name"] for job in joint["jobs"]] == ["width=1", "width=3", "width=4"]
    (failed,) = joint["failed"]
    assert (failed["job"], failed["name"]) == ("1", "width=2")
    assert "its process was killed" in failed["reason"]
    assert len(list((tmp_path / "tmp" / "store" / "train").glob("[!.]*"))) == 6  # two ends of each, trained once


class LostError(RuntimeError):
    """A worker."""


@pytest.mark.parametrize("deadly", [set(), {0}, {2, 5}, set(range(6))])
def test_jobs_that_run_beside_a_lost_one_are_run_again(deadly: set[int]) -> None:
    """Two at a time: what kills its worker takes its neighbour with it, and all that had to come."""
    done: set[int] = set()
    begun: set[int] = set()
    launches: list[list[int]] = []

    def start(more: Sequence[str]) -> None:
        left = {int(one) for word in more for one in word.split("=")[1].strip("'").split(",") if one}
        jobs = [job for job in range(6) if job not in left]
        launches.append(jobs)
        for pair in (jobs[i : i + 2] for i in range(0, len(jobs), 2)):
            begun.update(pair)
            if deadly & set(pair):
                raise LostError
            done.update(pair)

    launching.launch(start, lambda: (begun - done, set(range(6)) - begun), 6)
    assert done == set(range(6)) - deadly
    assert launches[0] == list(range(6))
    # In the end what may be deadly is alone.
    assert all(any(jobs == [one] for jobs in launches) for one in deadly)
    assert len(launches) <= 1 + 3 + 2 * len(deadly)


def test_while_jobs_start_no_sweeper_composes_them_to_see_whether_it_can() -> None:
    """The plan has: a sweeper of Hydra's own would repeat it for a second a sweep of six jobs."""
    before = Sweeper.validate_batch_is_legal

    def start(more: Sequence[str]) -> None:
        Sweeper.validate_batch_is_legal(None, [["no=job"]])  # of a sweeper that has nothing to compose with
        asked.append(more)

    asked: list[Sequence[str]] = []
    launching.launch(start, lambda: (set(), set()), 2)
    assert asked == [[]]
    assert Sweeper.validate_batch_is_legal is before


def test_a_launcher_that_starts_nothing_is_asked_once() -> None:
    asked = []

    def start(more: Sequence[str]) -> None:
        asked.append(more)
        raise LostError

    launching.launch(start, lambda: (set(), {0, 1}), 2)
    assert asked == [[]]


@pytest.mark.parametrize(
    ("launcher", "jobs", "together", "threads"),
    [
        ({"_target_": "x.BasicLauncher"}, 8, 1, 0),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -1}, 8, 4, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 2}, 8, 2, 2),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 2}, 1, 1, 0),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 9}, 20, 9, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -2}, 8, 3, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -9}, 8, 1, 0),
        ({"_target_": "x.JoblibLauncher", "n_jobs": None}, 8, 1, 0),
        ({"_target_": "x.LocalLauncher"}, 3, 3, 1),
        ({"_target_": "x.SlurmLauncher"}, 3, 1, 0),
        ({"_target_": "x.RayLauncher", "ray": {"init": {}}}, 8, 4, 1),
        ({"_target_": "x.RayLauncher", "ray": {"init": {"num_cpus": 2}}}, 8, 2, 2),
        ({"_target_": "x.RayLauncher", "ray": {"init": {"address": "auto"}}}, 8, 1, 0),
    ],
)
def test_jobs_at_once_share_the_cores_of_this_machine(launcher, jobs, together, threads, monkeypatch) -> None:
    monkeypatch.setattr(launching, "cores", lambda: 4)
    assert launching.at_once(launcher, jobs) == together
    assert launching.threads(launcher, jobs) == threads


@pytest.mark.parametrize(
    ("accelerator", "devices", "number", "count", "found"),
    [
        ("cpu", 1, 3, 4, 1),
        ("gpu", 1, 0, 1, 1),
        ("gpu", 1, 0, 2, [0]),
        ("gpu", 1, 3, 2, [1]),
        ("cuda", 1, 5, 4, [1]),
        ("gpu", [2], 3, 4, [2]),
        ("gpu", 2, 3, 4, 2),
    ],
)
def test_jobs_take_gpus_in_turn(accelerator, devices, number, count, found, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert launching.device({"accelerator": accelerator, "devices": devices}, number)["devices"] == found


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
