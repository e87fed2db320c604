"""Classes of a user's own: allowed by a written list of modules, and part of the identity by their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr import digests, modules
from mcr.errors import InputError
from mcr.plans.node import Config
from mcr.store.build import OWN_TARGETS, SOURCE


def marked(cfg: Config) -> dict[str, Any]:
    """The configuration with the digest of its source beside every import path of a module in ``plugins``.

    Without it nothing outside this package is built, save a network.

    Raises:
        InputError: For a module in the list that is not there.
    """
    plugins = cfg["plugins"]
    for name in plugins:
        if modules.find(name) is None:
            raise InputError(f"plugins={list(plugins)}: there is no module {name}; is its folder on PYTHONPATH?")
    marks = {group: _marked(part, plugins) for group, part in cfg.items() if isinstance(part, Mapping)}
    return {**cfg, **marks, "architecture": _architecture(cfg["architecture"])}


def _marked(part: Any, plugins: Sequence[str]) -> Any:
    if isinstance(part, list):
        return [_marked(value, plugins) for value in part]
    if not isinstance(part, Mapping):
        return part
    found = {key: _marked(value, plugins) for key, value in part.items()}
    target = str(part.get("_target_", ""))
    if any(target.startswith(f"{name}.") for name in plugins):
        found[SOURCE] = digests.source_digest(target)
    return found


def _architecture(part: Config) -> dict[str, Any]:
    """A network may come from anywhere."""
    if part["_target_"].startswith(OWN_TARGETS):
        return dict(part)
    return {**part, SOURCE: digests.source_digest(part["_target_"])}
