"""What pyproject.toml advertises as an extra is installed for the tests, and executed by one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).parent.parent
EXTRAS = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Requirement to the test that runs it.
EXECUTED = {
    "foolbox": "test_evasion.py::test_the_extra_attacks_is_executed_in_its_authors_own_code",
    "pyautoattack": "test_evasion.py::test_the_extra_attacks_is_executed_in_its_authors_own_code",
    "hydra-joblib-launcher": "test_launchers.py::test_jobs_of_a_sweep_have_the_same_tables_under_every_launcher",
    "hydra-submitit-launcher": "test_launchers.py::test_jobs_of_a_sweep_have_the_same_tables_under_every_launcher",
    "hydra-ray-launcher": "test_launchers.py::test_jobs_of_a_sweep_have_the_same_tables_under_every_launcher",
    "hydra-optuna-sweeper": "test_searches.py::test_a_search_goes_on_after_a_failed_trial_and_reports_all",
    "sqlalchemy": "test_searches.py::test_a_search_goes_on_after_a_failed_trial_and_reports_all",
    "tensorboard": "test_wandb.py::test_tensorboard_has_the_curves_of_trainings_and_the_barriers_of_the_job",
}

# Needs another version of what a package of the others needs: installed and run by a job of continuous integration.
APART = {"hydra-ray-launcher": "ray"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0] for requirement in requirements}


def test_every_extra_is_executed_by_a_test() -> None:
    offered = set().union(*(names(part) for extra, part in EXTRAS.items() if extra != "dev"))
    assert offered == set(EXECUTED)
    assert offered - names(EXTRAS["dev"]) == set(APART)
    workflow = (TESTS.parent / ".github" / "workflows" / "test.yml").read_text()
    assert all(f'".[{extra}]"' in workflow for extra in APART.values())
    for place in EXECUTED.values():
        file, test = place.split("::")
        assert f"def {test}(" in (TESTS / file).read_text()


def test_the_readme_names_the_extras() -> None:
    said = (TESTS.parent / "README.md").read_text().split("Extras:")[1].split("installed wheel")[0]
    assert set(re.findall(r"`(\w+)`", said)) == set(EXTRAS)
