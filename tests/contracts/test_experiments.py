"""Every experiment composes, states its command and its claims, and runs in its tiny form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from mcr.app import overrides, run
from mcr.app.composition import conf_folder
from mcr.plans import pipeline
from mcr.reports.claims import RELATIONS
from mcr.stages import checks
from tests.conftest import carried_out

CLAIM = {"source", "quantity", "relation", "value", "standard_errors"}
EXPERIMENTS = sorted((conf_folder() / "experiment").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import numpy as np
    from PIL import Image

    for part in ("train", "test"):
        for index in range(30 if part == "train" else 20):
            place = tmp_path / "images" / part / f"class{index % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), 80 * (index % 3) + index, np.uint8)).save(place / f"{index}.png")
    for index in range(2):
        for place in ("train/n0{}/images", "val/images"):
            found = tmp_path / "tiny-imagenet-200" / place.format(index)
            found.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64)).save(found / f"{index}.JPEG")
    said = "".join(f"{index}.JPEG\tn0{index}\t0\t0\t62\t62\n" for index in range(2))
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text(said)
    return tmp_path / "images"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_states_command_and_claims(path: Path) -> None:
    assert re.fullmatch(r"([a-z]+\d{4}|repairs)[a-z0-9_]*", path.stem)
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert re.match(rf"# mcr (repair )?experiment={path.stem}\b", lines[1])
    given = yaml.safe_load(path.read_text())
    # A smaller form inherits the claims of the experiment that it is a form of.
    parent = next(name for name in given["defaults"] if isinstance(name, str)) if "claims" not in given else path.stem
    claims = yaml.safe_load(path.with_name(f"{parent}.yaml").read_text())["claims"]
    assert claims
    for claim in claims:
        assert set(claim) - {"repair", "against", "of", "less"} == {
            "source",
            "quantity",
            "relation",
            "value",
            "standard_errors",
        }
        assert claim["relation"] in RELATIONS


def verb(path: Path) -> str:
    """The verb of the command in an experiment's first lines."""
    return "repair" if path.read_text().splitlines()[1].startswith("# mcr repair ") else "report"


def chosen(path: Path, group: str) -> str:
    """The option of a group that an experiment, or the one that it is a form of, chooses."""
    found = re.search(rf"override /{group}: (\w+)", path.read_text())
    if found:
        return found.group(1)
    parents = [name for name in yaml.safe_load(path.read_text())["defaults"] if isinstance(name, str)]
    return chosen(path.with_name(f"{parents[0]}.yaml"), group) if parents else ""


# Of sweeps over two groups with many options: those of one at a time; the smaller forms of them in the slow tier.
REPAIRS = ("repair=portfolio", "backdoor=badnets")
marked = [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem.startswith("repairs_") else [], id=path.stem)
    for path in EXPERIMENTS
]


def jobs_of(path: Path, request_for, *words: str) -> list[overrides.Job]:
    """The jobs of an experiment's sweep."""
    asked = [(fixed,) for fixed in REPAIRS] if path.stem.startswith("repairs") else [()]
    requests = [request_for(*words, *more, verb=verb(path)) for more in asked]
    assert all(request.swept for request in requests)
    return [job for request in requests for job in request.jobs]


@pytest.mark.parametrize("path", marked)
def test_an_experiment_asks_at_full_size_for_nothing_that_is_refused(path: Path, request_for, folder: Path) -> None:
    """Settings out of range, keys that nothing reads, and claims about what will not be measured."""
    words = [f"experiment={path.stem}", "replicate=0"]
    words += [f"dataset.root={folder}"] if chosen(path, "dataset") == "imagefolder" else []
    words += [f"paths.data={folder.parent}"] if chosen(path, "dataset") == "tiny_imagenet" else []
    checked: set[str] = set()
    for job in jobs_of(path, request_for, *words):
        stages = pipeline.ordered(pipeline.plan(job.config, run.title(job.config))[job.config["verb"]])
        for stage in (stage for stage in stages if stage.key not in checked):
            checks.check(stage)
            checked.add(stage.key)
    assert checked


# The injected errors of a barely trained network.
TINY_INJECTION = ("injection.attacked=1", "injection.kept=1", "injection.learning_rate=0.1", "training.epochs=40")
TINY_SWEEP = ("replicate=0", "repair.budget.images=all", "fit.images=all")


def covering(jobs: Sequence[overrides.Job]) -> list[overrides.Job]:
    """So many jobs of a sweep that every setting is in one of them."""
    seen: set[str] = set()
    found = []
    for job in jobs:
        if set(job.overrides) - seen:
            found.append(job)
            seen |= set(job.overrides)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_in_its_tiny_form(
    path: Path, request_for, folder: Path, tmp_path: Path, shared: Path
) -> None:
    words = [f"experiment={path.stem}", "debug=default", f"paths.root={shared}", *TINY_SWEEP]
    if chosen(path, "dataset") == "imagefolder":
        words += [f"dataset.root={folder}", "dataset.split={train: 12, validation: 6, clean: 6, test: 12}"]
    if chosen(path, "runtime") == "gpu" or chosen(path, "dataset") == "mnist":
        # What needs a GPU or a download: its own claims and settings, on generated images and a CPU.
        network = "small_vgg" if path.stem.startswith("repairs") else "small_cnn"
        words += ["dataset=synthetic", "dataset.images=160", "runtime=cpu"]
        words += [f"architecture={network}"] if chosen(path, "architecture") != "nemon" else []
    if "injection" in path.stem:
        words += TINY_INJECTION
        words += [] if chosen(path, "dataset") == "imagefolder" else ["dataset.split.validation=60"]
    # Networks of many layers on a dozen images.
    words += ["optimizer.lr=1e-4", "fit.optimizer.lr=1e-4"] if chosen(path, "architecture") == "imported" else []
    words += ["training.epochs=40"] if chosen(path, "endpoint@endpoints.end") == "snapshot" else []
    for job in covering(jobs_of(path, request_for, *words)):
        made = carried_out(job.config, job.config["verb"], tmp_path)
        goal = "card" if job.config["verb"] == "repair" else "report"
        # Made here, or by another test of this session that asked for the same.
        assert (made[goal][0] / "summary.json").is_file()


def test_a_sweep_over_the_number_of_clean_images_trains_the_tampered_ends_once(request_for, tmp_path: Path) -> None:
    words = ["experiment=zhao2020_table2_backdoor_digits", f"paths.root={tmp_path}", "replicate=0", "backdoor=badnets"]
    jobs = request_for(*words, verb="repair").jobs
    plans = [pipeline.ordered(pipeline.plan(job.config)["repair"]) for job in jobs]
    ends = {stage.key for plan in plans for stage in plan if stage.label in ("poison-train start", "poison-train end")}
    assert len(jobs) == 15
    assert len(ends) == 2
    assert len({plan[-1].key for plan in plans}) == len(jobs)
