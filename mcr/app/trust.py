"""What a configuration may make Hydra and Python's logging call: nothing of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mcr.errors import InputError

PLUGINS = ("hydra_plugins.", "hydra._internal.", "hydra.experimental.")  # packages of launchers and sweepers
HANDLERS = ("logging.", "colorlog.", "rich.logging.")
LOGGING = ("job_logging", "hydra_logging")


def check(own: DictConfig) -> None:
    """What a configuration, maybe of somebody else, changes in Hydra's part.

    Args:
        own: Hydra's part of the configuration.

    Raises:
        InputError: For callbacks, for a launcher, a sweeper or a log handler that is no known one, and for a working
            folder that would change under the relative paths of the command.
    """
    parts = OmegaConf.to_container(own, resolve=False)
    assert isinstance(parts, dict)
    if parts.get("callbacks"):
        names = ", ".join(str(name) for name in parts["callbacks"])
        raise InputError(f"hydra.callbacks ({names}) would be run by Hydra: mcr runs none, leave them out")
    for part in ("launcher", "sweeper"):
        target = str((parts.get(part) or {}).get("_target_"))
        if not target.startswith(PLUGINS):
            raise InputError(f"hydra.{part}._target_={target} is none of Hydra's: choose one by hydra/{part}=")
    for part in LOGGING:
        for key, name in _called(parts.get(part) or {}):
            if not str(name).startswith(HANDLERS):
                raise InputError(f"hydra.{part} has {key}: {name}, which is no log handler")
    if parts["job"].get("chdir") not in (False, None):
        raise InputError(
            "hydra.job.chdir=true would look for data and results below the run's own folder: leave it out; "
            "paths.root=DIR moves the results"
        )


def _called(tree: Any) -> Iterator[tuple[str, object]]:
    """What a logging configuration makes Python call."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in ("()", "class", "factory"):
                yield str(key), value
            yield from _called(value)
