"""Weights in several files, which an index names (``model.safetensors.index.json``). No torch."""

from __future__ import annotations

import hashlib
import json
import os
from math import inf
from pathlib import Path

from mcr.digests import file_digest
from mcr.errors import InputError
from mcr.text import printable

MOST_INDEX_MEGABYTES = 50.0  # read by the program itself; an index of a hundred thousand names has ten


def weights_digest(path: str, most_megabytes: float = inf) -> str:
    """SHA-256 of a file of weights; of an index, over it and all files that it names.

    Raises:
        InputError: As ``file_digest``; for a folder; for an index of what is not there; for files that together hold
            more than is allowed.
    """
    if os.path.isdir(path):
        raise InputError(f"{printable(path, 1000)} is a folder: name the file of weights in it")
    own = file_digest(path, most_megabytes)
    names = shards(Path(path))
    if not names:
        return own
    size = sum(name.stat().st_size for name in names if name.is_file()) / 1e6
    if size > most_megabytes:
        raise InputError(
            f"the files of {printable(path, 1000)} hold {size:.1f} MB, the limit is {most_megabytes:g} MB "
            "(most_megabytes)"
        )
    lines = [own, *(f"{name.name} {file_digest(str(name))}" for name in names)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def shards(path: Path) -> list[Path]:
    """The files that an index names, sorted; none for a file that is no index, by its content.

    Raises:
        InputError: For an index that names files outside its folder, or none.
    """
    if path.stat().st_size == 0:  # see ``file_digest``
        return []
    with path.open("rb") as stream:
        # JSON, and not the header of safetensors, whose length comes first.
        head = stream.read(64)
        if b"\0" in head or not head.strip().startswith((b"{", b"[")):
            return []
        content = stream.read(int(MOST_INDEX_MEGABYTES * 1e6))
    where = printable(str(path), 1000)
    try:
        found = json.loads(head + content)
        names = sorted(map(os.fspath, set(found["weight_map"].values())))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise InputError(f"{where} is JSON, but no index of files of weights (it has no weight_map)") from None
    wrong = next((name for name in names if os.path.basename(name) != name or not name.isprintable()), None)
    if wrong is not None or not names:
        raise InputError(f"{where} names {printable(str(wrong))}: files beside it are needed")
    return [path.parent / name for name in names]
