"""Sweepers that search: what they may make is checked, what they made is reported, a failed trial costs itself."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from mcr.app import cli, sweepers
from mcr.errors import InputError
from tests.conftest import TINY
from tests.processes import fresh

SEARCH = ("hydra/sweeper=optuna", "optimized_metric=robust_loss.interior")
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="the extra optuna is not installed"
)
NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
        self.width = width

    def forward(self, images):
        # In a training, not where the command looks at the network first.
        if self.width == 3 and len(images) > 2:
            raise RuntimeError("three is too few")
        return super().forward(images)
"""


def samples(*words: str) -> list[list[str]]:
    return sweepers.samples(OverridesParser.create().parse_overrides(list(words)))


def test_samples_have_each_value_and_both_ends() -> None:
    found = samples("a=1,2,3", "b=interval(0.1,0.5)", "c=range(2,9)", "+d=x", "e=tag(log,interval(1,4))")
    by_key = {line[0].split("=")[0]: {word.split("=")[1] for word in line} for line in zip(*found, strict=True)}
    ends = {"b": {"0.1", "0.5"}, "c": {"2", "9"}, "e": {"1.0", "4.0"}}
    assert by_key == {"a": {"1", "2", "3"}, "+d": {"x"}, **ends}
    assert len(found) == 3


def test_the_command_takes_the_place_of_a_parameter_of_the_sweeper() -> None:
    assert samples("a=interval(1,2)", "b=3", "a=5") == [["a=5", "b=3"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "optimizer.lr=interval(0.01,0.1)"], r"searches \(hydra/sweeper=optuna\)"),
        (["optimizer.lr=interval(0.01,0.1)"], "add -m"),
        (["--config-name", "mine"], "--config-dir DIR adds"),
        (["--config-path=mine"], "--config-dir DIR adds"),
        (["replicate=${hydra:job.num}"], r"replicate: .* in a sweep \(-m\)"),
        (["-m", "attack.eps=0.1,0.2", "architecture=${hydra:job.name}"], "architecture"),
        (["-m", "attack.eps=0.1,0.2", "paths.root=${hydra:runtime.output_dir}"], "paths.root: .* logger and report"),
    ],
    ids=str,
)
def test_what_no_plan_can_know_is_refused_in_one_line(words, expected, tmp_path: Path, monkeypatch) -> None:
    refused(words, expected, tmp_path, monkeypatch)


@needs_optuna
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", SEARCH[0]], "needs the number to search by: optimized_metric="),
        (["hparams_search=smallest_barrier"], "add -m"),
        (["-m", *SEARCH, "optimizer.lr=interval(-0.1,0.1)"], r"optimizer\.lr=-0\.1 must be above 0"),
        (["-m", *SEARCH, "fit.ema_decay=interval(0.1,2.0)"], r"fit\.ema_decay=2\.0 must be below 1"),
        (["-m", *SEARCH, "fit.keep=last,best,worst"], "fit.keep=worst"),
        (["-m", "train", *SEARCH], "measures nothing; report and repair do"),
        (["-m", SEARCH[0], "optimized_metric=robust_los.interior"], "did you mean robust_loss"),
        (["-m", SEARCH[0], "optimized_metric=robust_loss.interiour"], "robust_loss has no interiour"),
    ],
    ids=str,
)
def test_a_search_that_would_fail_is_refused_before_anything_is_trained(
    words, expected, tmp_path: Path, monkeypatch
) -> None:
    refused([*words, *TINY], expected, tmp_path, monkeypatch)


@needs_optuna
def test_a_search_does_not_mix_its_jobs_with_those_of_another(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "old" / "7" / ".hydra").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="holds jobs already"):
        cli.dispatch(["-m", *SEARCH, *TINY, "fit.weight_decay=0.0,0.1", "hydra.sweep.dir=old", "logger=none"])


def refused(words: list[str], expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=expected) as caught:
        cli.dispatch(words)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def test_the_number_of_the_job_is_known_in_a_sweep_alone(request_for) -> None:
    words = [*TINY, "attack.eps=0.1,0.2,0.3", "replicate=${hydra:job.num}", "runtime.devices=[${hydra:job.num}]"]
    late = ["logger=wandb", "logger.dir=${hydra:runtime.output_dir}"]
    jobs = request_for("-m", *words, *late).jobs
    assert [(job.config["replicate"], job.config["runtime"]["devices"]) for job in jobs] == [
        (0, [0]),
        (1, [1]),
        (2, [2]),
    ]


@needs_optuna
@pytest.mark.slow
def test_a_search_goes_on_after_a_failed_trial_and_reports_all(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(NET)
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_net.Net", "+architecture.width=2,3,4", "logger=none", "paths.root=tmp"]
    # With this seed each width is drawn once, the one that fails in the middle.
    sampler = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=16"]
    sampler += ["hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    done = fresh("-m", *words, *SEARCH, *sampler, folder=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    (sweep,) = (tmp_path / "tmp" / "sweeps").iterdir()
    joint = json.loads((sweep / "summary.json").read_text())
    (failed,) = joint["failed"]
    assert (failed["name"], failed["reason"]) == ("width=3", "RuntimeError: three is too few")
    found = {job["name"]: job["subspaces"]["path"]["metrics"]["robust_loss"]["interior"] for job in joint["jobs"]}
    assert set(found) == {"width=2", "width=4"}
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert math.isclose(best["best_value"], min(found.values()))
    name = min(found, key=lambda name: found[name])
    assert f"best params: +architecture.{name}" in done.stdout
    assert f"best value: {best['best_value']}" in done.stdout


@needs_optuna
@pytest.mark.slow
def test_the_search_that_is_shipped_makes_its_trials_and_trains_ends_once(tmp_path: Path) -> None:
    words = ["hparams_search=smallest_barrier", "hydra.sweeper.n_trials=3", *TINY, "logger=none", "paths.root=tmp"]
    done = fresh("-m", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    (sweep,) = (tmp_path / "tmp" / "sweeps").iterdir()
    assert len(json.loads((sweep / "summary.json").read_text())["jobs"]) == 3
    assert len(list((tmp_path / "tmp" / "store" / "train").glob("[!.]*"))) == 2


@pytest.mark.slow
def test_a_job_finds_the_number_that_its_plan_had(tmp_path: Path) -> None:
    words = ["fit.weight_decay=0.0,0.1", "replicate=${hydra:job.num}", *TINY, "logger=none", "paths.root=tmp"]
    done = fresh("-m", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    planned = fresh("show", "-m", *words, folder=tmp_path)
    assert "hit" in planned.stdout
    assert "miss" not in planned.stdout
    assert len(list((tmp_path / "tmp" / "store" / "train").glob("[!.]*"))) == 4  # two ends of each replicate
