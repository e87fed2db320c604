"""A logger of Lightning's, or of the user's, that a configuration names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcr.errors import InputError
from mcr.loggers.place import Place
from mcr.store import build

OURS = ("kind", build.SOURCE)  # of the logger group, not of the class
LIGHTNING = "pytorch_lightning.loggers."


@contextmanager
def opened(place: Place, version: str) -> Iterator[Any]:
    """The logger, finalized at the end with how it ended.

    Args:
        place: ``_target_`` and its arguments; where it takes ``save_dir`` or ``version`` and its settings leave them
            null, they are the folder of the run and what is logged.
        version: What is logged.

    Raises:
        InputError: Where the package that it needs is not installed.
    """
    target = place.settings["_target_"]
    if not target.startswith(LIGHTNING) and build.SOURCE not in place.settings:
        module = target.rpartition(".")[0] or target
        raise InputError(
            f"logger._target_={target} is not allowed: it is one of {LIGHTNING[:-1]}, or of a module of your own that "
            f"plugins=[{module}] names"
        )
    config = {key: value for key, value in place.settings.items() if key not in (*OURS, "_target_")}
    given = {"save_dir": str(place.folder), "version": version, "run_name": version}
    config |= {key: value for key, value in given.items() if key in config and config[key] is None}
    try:
        logger = build.locate(target)(**config)
    except ModuleNotFoundError as error:
        said = " ".join(str(error).split())
        raise InputError(f"logger {target} needs a package that is not installed: {said}") from None
    except TypeError as error:
        raise InputError(f"logger {target}: {error}") from None
    try:
        yield logger
    finally:
        logger.finalize("success" if sys.exc_info()[0] is None else "failed")
