"""Imports go down only, and never sideways in a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mcr

PACKAGE = Path(mcr.__file__).parent
# From the top down; rooms of one row are blind to each other.
ROWS = [
    {"__main__", "library"},
    {"app"},
    {"plans"},
    {"stages"},
    {"loggers", "reports"},
    {"edits", "merges", "repairs", "training"},
    {"signals"},
    {"foreign", "penalties", "probes", "starts", "transforms"},
    {"evaluation", "objectives", "sampling", "weightspace"},
    {"store"},
    {
        "architectures",
        "attacks",
        "backdoors",
        "curves",
        "datasets",
        "detectors",
        "injections",
        "schedules",
        "selection",
    },
    {"bounds", "numerics", "passes", "progress", "metric"},
    {"types", "digests", "spawning", "text"},
    {"digest_memory", "modules"},
    {"errors"},
]
# The same inside the rooms that are layered themselves.
FLOORS = {
    "app": [
        {"cli"},
        {"explain", "export", "prune", "show", "sweep"},
        {"cost", "jobs", "setting"},
        {"made", "options"},
        {"experiments"},
        {"run"},
        {"failure", "launching", "logged", "overrides", "terminal"},
        {"given", "published"},
        {"titles"},
        {"composition", "hints", "trust"},
        {"added", "differences", "synonyms"},
        {"faults", "shorthands", "sweepers"},
    ],
    "foreign": [{"fit"}, {"part"}, {"reading"}, {"child", "shards"}, {"container"}, {"tensors"}, {"pickled"}],
    "store": [{"leftovers"}, {"build", "store"}, {"manifest", "stage"}, {"identity", "jsonfile", "locks"}, {"disk"}],
    "plans": [
        {"pipeline"},
        {"merges", "repair"},
        {"precheck"},
        {"measures", "networks", "plugins"},
        {"alignments", "together"},
        {"subspaces"},
        {"edges"},
        {"node", "recipes"},
    ],
}
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
HEAVY = {"torch", "pytorch_lightning", "torchvision", "torchmetrics"}
# May not load torch, not even through what they import: the command line's views and the reading of tables.
LIGHT_ROOMS = {
    *("__init__", "__main__", "app", "digest_memory", "digests", "errors", "evaluation", "metric", "modules", "plans"),
    *("loggers", "passes", "progress", "reports", "selection", "store", "text"),
}
LIGHT_FILES = {
    *("datasets/__init__.py", "datasets/classes.py", "datasets/folder.py", "datasets/left_out.py"),
    *("foreign/__init__.py", "foreign/child.py", "foreign/container.py"),
    *("foreign/pickled.py", "foreign/shards.py", "foreign/tensors.py"),
    *("numerics/__init__.py", "numerics/malloc.py"),
    *("numerics/statistics.py", "signals/__init__.py", "signals/estimate.py"),
    *("stages/__init__.py", "stages/context.py"),
}


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


def upward(level: dict[str, int], importer: str, imported: str) -> bool:
    return imported != importer and imported in level and level[imported] <= level[importer]


def test_every_room_has_its_row() -> None:
    rooms = {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(LEVEL)


def test_imports_go_down_only() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if room(path) != "__init__"
        for name in imports(path)
        if name.startswith("mcr.") and upward(LEVEL, room(path), name.split(".")[1])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_imports_inside_a_room_go_down_only(name: str) -> None:
    level = {file: floor for floor, row in enumerate(FLOORS[name]) for file in row}
    files = {path.stem: path for path in PACKAGE.joinpath(name).glob("*.py")}
    assert set(files) - {"__init__"} == set(level)
    wrong = [
        f"{file} imports {found}"
        for file in level
        for found in imports(files[file])
        if found.startswith(f"mcr.{name}.") and upward(level, file, found.split(".")[2])
    ]
    assert wrong == []


def test_hydra_composes_in_the_app_and_builds_in_the_store() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}
    }
    assert {user for user in users if not user.startswith("app/")} == {"store/build.py"}


def light(path: Path) -> bool:
    return room(path) in LIGHT_ROOMS or path.relative_to(PACKAGE).as_posix() in LIGHT_FILES


def modules(name: str) -> list[Path]:
    """The files of this package that importing a name loads: the packages on the way, and the module."""
    parts = name.split(".")
    places = [PACKAGE.joinpath(*parts[1:count]) for count in range(2, len(parts) + 1)]
    return [path for place in places for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()]


@pytest.mark.parametrize(
    "path", [p for p in sorted(PACKAGE.rglob("*.py")) if light(p)], ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_light_files_import_no_torch(path: Path) -> None:
    found = imports(path, top_only=True)
    assert not {name.split(".")[0] for name in found} & HEAVY
    own = [name for name in found if name.split(".")[0] == "mcr"]
    assert [str(needed) for name in own for needed in modules(name) if not light(needed)] == []


def test_lightning_lives_in_training_only() -> None:
    users = {room(path) for path in PACKAGE.rglob("*.py") if any("pytorch_lightning" in n for n in imports(path))}
    assert users <= {"training", "stages", "loggers"}


def test_files_stay_small_and_no_room_is_nameless() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path
        assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_nothing_is_unpickled() -> None:
    """Files are loaded as safetensors; those of users are read as records, and own checkpoints with weights_only."""
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    }
    assert found == set()


def _text_files(path: Path) -> list[str]:
    """Calls that read or write text without saying how it is encoded."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or "encoding" in {keyword.arg for keyword in node.keywords}:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and re.fullmatch(r"[rwaxbt+]{1,3}", text)]
        others = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
            "os",
            "Image",
            "archive",
            "wandb",
        )
        if name in ("read_text", "write_text") or (
            name in ("open", "fdopen", "NamedTemporaryFile") and not others and not any("b" in mode for mode in modes)
        ):
            found.append(f"{path.name}:{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("folder", ["mcr", "torture"])
def test_every_text_file_says_its_encoding(folder: str) -> None:
    """Without it a result depends on the machine's locale."""
    assert [call for path in sorted(PACKAGE.parent.joinpath(folder).rglob("*.py")) for call in _text_files(path)] == []
