"""Imports go down only, and never sideways in a row."""

from __future__ import annotations

import ast
from pathlib import Path

import mcr

PACKAGE = Path(mcr.__file__).parent
# From the top down; rooms of one row are blind to each other.
ROWS = [
    {"__main__"},
    {"cli"},
    {"sweep", "views"},
    {"run"},
    {"overrides", "pipeline", "terminal"},
    {"plans"},
    {"stages"},
    {"reports"},
    {"repairs"},
    {"training", "evaluation"},
    {"store", "build", "differences", "shorthands"},
    {"objectives", "probes"},
    {
        "architectures",
        "attacks",
        "curves",
        "datasets",
        "schedules",
        "weightspace",
        "backdoors",
        "injections",
        "selection",
    },
    {"losses", "seeding", "progress", "precision", "heap"},
    {"types", "identity"},
    {"errors"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
HEAVY = {"torch", "pytorch_lightning", "torchvision", "torchmetrics"}
# May not import torch at all: the command line's views and the reading of tables.
LIGHT_ROOMS = [
    "__init__",
    "cli",
    "views",
    "overrides",
    "shorthands",
    "differences",
    "pipeline",
    "store",
    "identity",
    "build",
]
LIGHT = [f"{name}.py" for name in [*LIGHT_ROOMS, "run", "sweep", "terminal", "progress"]]
LIGHT += [f"evaluation/{name}.py" for name in ("bootstrap", "table", "summary")]
LIGHT += [
    f"reports/{name}.py" for name in ("figures", "document", "claims", "cards", "repairs", "robustness", "together")
]
LIGHT += [f"plans/{name}.py" for name in ("node", "recipes", "ends", "paths", "defense")]
LIGHT += [f"selection/{name}.py" for name in ("choice", "middle", "farthest")]


def imports(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_row() -> None:
    rooms = {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(LEVEL)


def test_imports_go_down_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if room(path) == "__init__":
            continue
        for name in imports(path, top_only=False):
            parts = name.split(".")
            if parts[0] != "mcr" or len(parts) < 2 or parts[1] not in LEVEL or parts[1] == room(path):
                continue
            if LEVEL[parts[1]] <= LEVEL[room(path)]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_light_files_import_no_torch() -> None:
    for name in LIGHT:
        assert not {found.split(".")[0] for found in imports(PACKAGE / name, top_only=True)} & HEAVY, name


def test_lightning_lives_in_training_only() -> None:
    users = {room(path) for path in PACKAGE.rglob("*.py") if any("pytorch_lightning" in n for n in imports(path))}
    assert users <= {"training", "stages"}


def test_files_stay_small_and_no_room_is_nameless() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path
        assert path.stem not in {"utils", "helpers", "common", "misc"}
