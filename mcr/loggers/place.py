"""Where a command's runs are logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AGENT = "WANDB_SWEEP_ID"


@dataclass(frozen=True)
class Place:
    """What all runs of a command share.

    Attributes:
        settings: The logger group.
        group: Name under which they are shown together.
        folder: Holds their files, unless the settings name another.
    """

    settings: Mapping[str, Any]
    group: str
    folder: Path

    @property
    def of_an_agent(self) -> bool:
        """Whether W&B's agent started the command: it knows of one run only, the job's, whatever id others ask for."""
        return AGENT in os.environ

    @property
    def kind(self) -> str:
        """The kind of logger; W&B that is disabled is none, and leaves no file."""
        kind: str = self.settings["kind"]
        return "none" if kind == "wandb" and self.settings["mode"] == "disabled" else kind
