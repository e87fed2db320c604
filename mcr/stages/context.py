"""What surrounds a stage and cannot change its numbers: device, loggers, folders, progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcr.errors import InputError


@dataclass(frozen=True)
class Context:
    """The unhashed part of a run.

    Attributes:
        runtime: The runtime group: accelerator, devices, strategy, threads.
        logger: The logger group.
        group: Name under which W&B shows the runs of one command together.
        folder: The run's own folder (log files of a CSV logger, W&B's offline runs beside it).
    """

    runtime: Mapping[str, Any]
    logger: Mapping[str, Any]
    group: str
    folder: Path

    @property
    def device_name(self) -> str:
        """torch's name of the device that stages compute on."""
        return "cuda" if self.runtime["accelerator"] in ("gpu", "cuda") else "cpu"

    def memory_format(self, recipe: Mapping[str, Any]) -> Any:
        """torch's memory format of a recipe. Raises InputError for an unknown one."""
        import torch

        formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
        if recipe["memory_format"] not in formats:
            raise InputError(f"memory_format={recipe['memory_format']} must be {' or '.join(formats)}")
        return formats[recipe["memory_format"]]

    def prepare(self) -> None:
        """Set the number of CPU threads and refuse a device that is not there."""
        import torch

        if self.runtime["threads"]:
            torch.set_num_threads(self.runtime["threads"])
        if self.device_name == "cuda" and not torch.cuda.is_available():
            raise InputError("runtime.accelerator=gpu, but torch finds no CUDA device: use runtime=cpu")
