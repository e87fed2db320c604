"""Identity of a stage: canonical JSON, its key, and the provenance that lies beside a result."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

from mcr.errors import InputError

KEY_LENGTH = 16
# Whose versions stand beside a result.
PACKAGES = ("mcr", "torch", "torchvision", "pytorch-lightning", "numpy", "scipy", "foolbox", "pyautoattack")
PLACES = frozenset({"root", "path", "store", "data"})
SETTLED_SECONDS = 2.0  # after its last change: the coarsest clock of a file system
_FRACTION = re.compile(r"\s*\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*")
_digests: dict[tuple[str | int, ...], str] = {}  # of the files that this process has read


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


def file_digest(path: str, most_megabytes: float = inf) -> str:
    """SHA-256 of a file's bytes.

    A file is read once a process: its digest is remembered, and forgotten with the next change of the file.

    Args:
        path: The file, or a link to it.
        most_megabytes: A larger file is refused unread.

    Raises:
        InputError: Where there is no such file, or none that ends (a device, a pipe), or it is larger than allowed.
    """
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{path} is no plain file")
        size = before.st_size / 1e6
        if size > most_megabytes:
            raise InputError(f"{path} holds {size:.1f} MB, the limit is {most_megabytes:g} MB (most_megabytes)")
        state = _state(path, before)
        if state in _digests:
            return _digests[state]
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise InputError(f"cannot read the file {path}: {error.strerror}") from None
    # Times are coarse: a file that has just changed could change again and look the same.
    if state == _state(path, after) and time.time() - max(after.st_mtime, after.st_ctime) > SETTLED_SECONDS:
        _digests[state] = digest
    return digest


def _state(path: str, found: os.stat_result) -> tuple[str | int, ...]:
    """What differs after each change of a file, without reading it."""
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (os.path.abspath(path), found.st_dev, found.st_ino, found.st_size, *times)


def source_digest(target: str) -> str:
    """What stands behind an import path: SHA-256 of a user's module or package, or an installed package's version.

    A user's own network is edited between runs; without this, an old result would be taken for the new code's.
    """
    top = target.split(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise InputError(f"no module holds {target}: is its folder on PYTHONPATH?")
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = sorted(path for folder in folders for path in folder.rglob("*.py")) or [Path(str(spec.origin))]
    if {"site-packages", "dist-packages"} & set(files[0].parts):
        names = metadata.packages_distributions().get(top, [])
        return " ".join(f"{name}=={metadata.version(name)}" for name in sorted(set(names))) or "installed"
    return hashlib.sha256("".join(file_digest(str(path)) for path in files).encode()).hexdigest()


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def provenance(seconds: float, device: str) -> dict[str, Any]:
    """What a result came from besides its recipe: commit, versions, device, seconds."""
    root = Path(__file__).resolve().parent.parent
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
        "device": device,
        "seconds": round(seconds, 3),
    }
