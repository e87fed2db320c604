"""Identity of a stage: canonical JSON, its key, and the provenance that lies beside a result."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mcr.errors import InputError

KEY_LENGTH = 16
# Whose versions stand beside a result.
PACKAGES = ("mcr", "torch", "torchvision", "pytorch-lightning", "numpy", "scipy", "foolbox", "pyautoattack")
PLACES = frozenset({"root", "path", "store", "data"})
_FRACTION = re.compile(r"\s*\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*")


def is_place(key: str) -> bool:
    """Whether a dotted key of the configuration, or of Hydra's part of it, holds a path of the file system.

    >>> is_place("dataset.root"), is_place("paths.data"), is_place("hydra.run.dir"), is_place("probes.test.data")
    (True, True, True, False)
    """
    *above, last = key.split(".")
    first = above[0] if above else ""
    return first == "paths" or (last in PLACES and last != "data") or (first == "hydra" and last == "dir")


def number(value: Any) -> Any:
    """A fraction written as text ("8/255") as a float; everything else unchanged.

    >>> number("1/4"), number("train"), number(3)
    (0.25, 'train', 3)
    """
    if not (isinstance(value, str) and _FRACTION.fullmatch(value)):
        return value
    numerator, denominator = (Fraction(part.strip()) for part in value.split("/"))
    if denominator == 0:
        raise InputError(f"the fraction {value.strip()} divides by zero")
    return float(numerator / denominator)


def numbers(tree: Any) -> Any:
    """A plain copy of nested mappings and lists with every fraction as a float; a path such as 1/2 stays a path."""
    if isinstance(tree, Mapping):
        return {str(key): value if key in PLACES else numbers(value) for key, value in tree.items()}
    if isinstance(tree, Sequence) and not isinstance(tree, str):
        return [numbers(value) for value in tree]
    return number(tree)


def canonical(tree: Any) -> str:
    """JSON with sorted keys; 1 and 1.0 are the same number, and so are 8/255 and its decimals.

    >>> canonical({"b": 1.0, "a": "8/255"})
    '{"a":0.03137254901960784,"b":1}'
    """

    def plain(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: plain(value) for key, value in node.items()}
        if isinstance(node, list):
            return [plain(value) for value in node]
        if isinstance(node, float):
            if not math.isfinite(node):
                raise InputError(f"{node} is not a usable number in a configuration")
            return int(node) if node.is_integer() else node
        return node

    return json.dumps(plain(numbers(tree)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key(tree: Any) -> str:
    """The first hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(tree).encode()).hexdigest()[:KEY_LENGTH]


def stage_key(record: Mapping[str, Any]) -> str:
    """The key that a stage's record must have: of its name, version, recipe, and the keys of what it needs.

    Args:
        record: ``stage``, ``version``, ``config``, and ``needs``: role to a mapping with the ``key``.
    """
    needs = {role: need["key"] for role, need in record["needs"].items()}
    parts = {"stage": record["stage"], "version": record["version"], "config": record["config"], "needs": needs}
    return key(parts)


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def processor() -> str:
    """The model of this machine's processor, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def software() -> dict[str, Any]:
    """The commit of this package where it runs from a checkout, and what it runs on."""
    root = Path(__file__).resolve().parent.parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "not a checkout"
    return {
        "commit": commit,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def provenance(seconds: float, device: Mapping[str, Any]) -> dict[str, Any]:
    """What a result came from besides its recipe: commit, versions, machine, seconds.

    Args:
        seconds: That it took.
        device: What it was computed on: ``device`` and ``threads``, and what it took of that, where it is known.
    """
    return {
        **software(),
        "processor": processor(),
        **device,
        "seconds": round(seconds, 3),
    }
