"""Golden numbers: the tables of the demo, of other paths and of repairs at a tiny budget, as they were first measured.

They hold the whole chain, from a command line to the rows of a report. A number that moves on purpose is written anew
with its reason in CHANGELOG.md; the tolerance is for the rounding of other processors only.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mcr.app import run
from mcr.plans import pipeline
from mcr.stages.context import Context
from mcr.store.store import Store

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tables.json").read_text())
SMALL = (
    *(
        "dataset.split={train: 200, validation: 60, clean: 40, test: 100}",
        "training.epochs=3",
        "training.min_accuracy_over_chance=0",
    ),
    *("fit.epochs=3", "evaluation.grid=3", "evaluation.robust_images=64", "evaluation.hessian_images=16"),
    *("evaluation.train_images=64", "probes.stronger.images=16", "evaluation.group_images=16"),
    *("evaluation.group_grid=3", "logger=none", "runtime.threads=1"),
)
DEMO = (
    *("experiment=zhao2020_fig4_barrier_digits", "hydra.mode=RUN", "+probe@probes.alignment=alignment", *SMALL),
    "probes.robust.attack={steps: 7, restarts: 1}",  # the demo's own when it was first measured
)
# A network with BatchNorm.
NORMED = ("dataset=digits", "architecture=small_vgg", "architecture.width=4", *SMALL)
PATCH = ("backdoor.size=2", "backdoor.row=-3", "backdoor.column=-3", "poisoning.ratio=0.5")
DEFENDER = (
    *(
        "repair.budget.steps=6",
        "repair.budget.batch_size=16",
        "repair.budget.rates=[0.02,0.1]",
        "selection=farthest",
        "repair.budget.taken=chosen",
        "selection.standard_errors=9",
    ),
    "card.reactivation.steps=[1,2]",
)
POISONED = (*NORMED, "ends=backdoored", *PATCH, *DEFENDER)
CASES = {
    "demo regular_robust": ("report", *DEMO, "ends=regular_robust"),
    "demo robust_robust": ("report", *DEMO, "ends=robust_robust"),
    "robust path": (
        *("report", *NORMED, "ends=regular_robust", "objective=adversarial"),
        *("attack.eps=0.1", "attack.step_size=0.05", "attack.steps=2"),
    ),
    "backdoored path": ("report", *NORMED, "ends=backdoored", *PATCH, "attack=none", "fit.split=clean"),
    "path aware": ("report", *NORMED, "ends=path_aware", *PATCH, "attack=none", "fit.split=clean"),
    "repair path": ("repair", *POISONED, "repair=path_point", "repair.grid=5"),
    "repair finetune": ("repair", *POISONED, "repair=finetune"),
    "repair prune": ("repair", *POISONED, "repair=prune"),
    "repair noise": ("repair", *POISONED, "repair=noise", "repair.draws=3"),
    "repair injected": (
        "repair",
        *NORMED,
        "ends=injected",
        "injection=gaussian",
        *DEFENDER,
        "repair=path_point",
        "repair.grid=5",
    ),
    "repair sneaking": (
        *("repair", *NORMED, "ends=injected", *DEFENDER, "repair=path_point", "repair.grid=5", "training.epochs=40"),
        *("injection.attacked=1", "injection.kept=1", "injection.learning_rate=0.1"),
    ),
    "repair copy": (
        *("repair", *POISONED, "repair=path_point", "repair.grid=5", "endpoint@endpoints.end=permuted_copy"),
    ),
}


def columns(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    words = {"True": 1.0, "False": 0.0}
    names = [name for name in rows[0] if name != "repair"]
    return {name: [words[row[name]] if row[name] in words else float(row[name]) for row in rows] for name in names}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: what two cases share is made once."""
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", CASES)
def test_the_tables_are_those_of_the_first_measurement(name: str, request_for, root: Path) -> None:
    verb, *words = CASES[name]
    cfg = request_for(*words, f"paths.root={root}", verb=verb).jobs[0].config
    goals = pipeline.plan(cfg, run.title(cfg))[verb]
    store = Store(cfg["paths"]["store"])
    for _ in pipeline.make(goals, store, Context(cfg["runtime"], cfg["logger"], "tests", root / "run")):
        pass
    for table, golden in GOLDEN[name].items():
        found = columns(store.folder(goals[0]) / f"{table}.csv")
        expected = {column: pytest.approx(values, rel=1e-4, abs=1e-6) for column, values in golden.items()}
        assert expected == {column: found[column] for column in golden}
