"""Modules that an import path names: what is installed, and what lies in the working folder beside it."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


def find(name: str) -> ModuleSpec | None:
    """Where a module or package is, or None; from then on it can be imported.

    The working folder is searched last, and becomes importable only when a module is found there: a file beside a
    network of unknown origin that is called like a package (``torch.py``, ``yaml.py``) is never run, nor one that an
    installed package would like to import, but the user's own network is found.

    Args:
        name: With dots for a module of a package; this imports the package.
    """
    top = name.partition(".")[0]
    folder = str(Path.cwd())
    try:
        if importlib.util.find_spec(top) is None and PathFinder.find_spec(top, [folder]) is not None:
            sys.path.append(folder)
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
