"""What a run is called, from its configuration: the names of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def title(cfg: Mapping[str, Any]) -> str:
    """What figures and tables call a run."""
    choices = cfg["choices"]
    whole = f"{choices['dataset']}, {choices['architecture']}: {ends(cfg)}"
    if cfg["verb"] == "repair":
        method, images = cfg["repair"]["name"].replace("_", " "), cfg["repair"]["budget"]["images"]
        return f"{whole}, {method} with {images} clean images"
    return f"{whole}, {choices['curve'].replace('_', ' ')}"


def ends(cfg: Mapping[str, Any]) -> str:
    """The networks that it joins, in words."""

    def end(name: str) -> str:
        chosen = cfg["endpoints"][name]
        edits = [edit["label"] for edit in chosen["edits"].values() if edit["label"] not in chosen["label"]]
        # A copy says in its own name what was done to it.
        return " ".join([*(edits if chosen["source"] != "copy" else []), chosen["label"]])

    names = [end(name) for name in cfg["endpoints"]]
    return " to ".join(names) if len(names) == 2 else ", ".join(names)
