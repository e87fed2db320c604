"""What surrounds a stage and cannot change its numbers: device, loggers, folders, progress."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mcr import passes
from mcr.errors import InputError
from mcr.loggers.place import Place
from mcr.numerics.malloc import keep_freed_memory

PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # of Linux: a 5 in the first forgets the peak


@dataclass(frozen=True)
class Context:
    """The unhashed part of a run.

    Attributes:
        runtime: The runtime group: accelerator, devices, strategy, threads, compile.
        logger: The logger group.
        group: Name under which W&B shows the runs of one command together.
        folder: The run's own folder (log files of a CSV logger, W&B's offline runs beside it).
    """

    runtime: Mapping[str, Any]
    logger: Mapping[str, Any]
    group: str
    folder: Path

    @property
    def place(self) -> Place:
        """Where trainings are logged."""
        return Place(self.logger, self.group, self.folder)

    @property
    def processes(self) -> int:
        """How many processes train together, and ask probes."""
        devices = self.runtime["devices"]
        return len(devices) if isinstance(devices, list) else int(devices)

    @cached_property
    def accelerator(self) -> str:
        """Of training and evaluation alike, "cpu" or "gpu": "auto" is a GPU where torch finds one."""
        chosen = self.runtime["accelerator"]
        if chosen == "auto":
            import torch

            return "gpu" if torch.cuda.is_available() else "cpu"
        return "gpu" if chosen == "cuda" else str(chosen)

    @property
    def device_name(self) -> str:
        """torch's name of the device that stages compute on; of several, the first."""
        if self.accelerator == "cpu":
            return "cpu"
        devices = self.runtime["devices"]
        return f"cuda:{devices[0]}" if isinstance(devices, list) else "cuda:0"

    @property
    def training_data_device(self) -> str:
        """Where training images lie: on the device, or in memory that several processes can share."""
        return self.device_name if self.processes == 1 else "cpu"

    def trainer(self) -> dict[str, Any]:
        """What a training takes of this: accelerator, devices, strategy, and the CPU threads of each process."""
        taken = {name: self.runtime[name] for name in ("devices", "strategy", "threads")}
        return {"accelerator": self.accelerator, **taken}

    def alone(self, rank: int) -> Context:
        """What surrounds one of several processes that work each for itself: its device, its part of the threads."""
        import torch

        devices = self.runtime["devices"]
        device = devices[rank] if isinstance(devices, list) else rank
        own = {
            "accelerator": self.accelerator,
            "devices": 1 if self.accelerator == "cpu" else [device],
            "strategy": "auto",
            "threads": self.runtime["threads"] or max(1, torch.get_num_threads() // self.processes),
        }
        return replace(self, runtime={**self.runtime, **own})

    def machine(self) -> dict[str, Any]:
        """What may move the last digits of a result: the device, and the number of CPU threads."""
        import torch

        return {"device": self.device_name, "threads": torch.get_num_threads()}

    @contextmanager
    def spending(self) -> Iterator[dict[str, int]]:
        """Within it a stage is computed; afterwards what it gives holds what that took, besides time.

        ``forward_passes``, of one image each, and ``peak_megabytes``: on a GPU what torch had reserved there, else of
        the whole process. Each where it is known: not of several processes, and memory beside a CPU on Linux alone.
        """
        spent: dict[str, int] = {}
        _forget_peak(self.device_name)
        with passes.counted() as found:
            yield spent
        if self.processes == 1:
            spent |= {"forward_passes": found.images, **_peak(self.device_name)}

    def memory_format(self, name: str) -> Any:
        """torch's memory format of that name."""
        import torch

        return {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[name]

    def check(self) -> None:
        """Raises InputError for a device that is not there, or settings that do not go together."""
        import torch

        if self.accelerator == "mps":
            why = "Apple's GPUs have no float64, in which means and spectra are taken"
            raise InputError(f"runtime.accelerator=mps: {why}: use runtime=cpu")
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise InputError("runtime.accelerator=gpu, but torch finds no CUDA device: use runtime=cpu")
        self._check_devices()
        if self.processes > 1 and not str(self.runtime["strategy"]).endswith("_spawn"):
            # Others start the whole command again in each process, which would wait for this one's locks for ever.
            raise InputError(f"runtime.strategy={self.runtime['strategy']}: several devices need runtime=ddp")
        if self.runtime.get("compile", "none") != "none" and self.processes > 1:
            raise InputError("runtime.compile needs a single device: the network reaches the others uncompiled")

    def _check_devices(self) -> None:
        """Raises InputError for devices that are not there, or named twice."""
        import torch

        devices = self.runtime["devices"]
        named = f"runtime.devices={str(devices).replace(' ', '')}"
        if self.accelerator == "cpu":
            if isinstance(devices, list):
                raise InputError(f"{named} names GPUs; on a CPU it is a number of processes, such as 1")
            there, kind = os.cpu_count() or 1, "CPUs"
        else:
            there, kind = torch.cuda.device_count(), "CUDA devices"
        if isinstance(devices, list):
            if len(set(devices)) < len(devices):
                raise InputError(f"{named} names a device twice: each once, such as [0,1]")
            if max(devices) >= there:
                raise InputError(f"{named}, but there are {there} {kind}, counted from 0")
        elif devices > there:
            raise InputError(f"{named}, but there are {there} {kind}")

    def prepare(self) -> None:
        """Set memory and CPU threads, and float32 that is float32 on every device. Raises InputError like check."""
        import torch

        from mcr.numerics.precision import full_float32

        self.check()
        keep_freed_memory()
        if self.runtime["threads"]:
            torch.set_num_threads(self.runtime["threads"])
        full_float32()


def _forget_peak(device: str) -> None:
    """Peak memory is counted from here on, where that can be."""
    if device == "cpu":
        with suppress(OSError):  # another system than Linux; there nothing is told
            PEAK.write_text("5", encoding="ascii")
    else:
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> dict[str, int]:
    """The most memory since then, in MB."""
    if device != "cpu":
        import torch

        return {"peak_megabytes": round(torch.cuda.max_memory_reserved(device) / 1e6)}
    if not os.access(PEAK, os.W_OK):
        return {}
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    most = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return {} if most is None else {"peak_megabytes": round(int(most) * 1024 / 1e6)}
