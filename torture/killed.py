"""A command that kills itself at a chosen moment: in front of, within or after one of its writes."""

from __future__ import annotations

import io
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import torch

MOMENTS = ("before", "within", "after")


class _Writes:
    """Counts the operations that put something on the disk, and ends the process at one of them."""

    def __init__(self, number: int, moment: str, counted: str) -> None:
        self.number, self.moment, self.count, self.place = number, moment, 0, pathlib.Path(counted)

    def wrap(self, real: Callable[..., Any], half: Callable[..., None] | None = None) -> Callable[..., Any]:
        """An operation, counted; ``half`` leaves what is there when it is broken off."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            self.place.write_bytes(str(self.count).encode())
            if self.count != self.number:
                return real(*args, **kwargs)
            if self.moment == "within" and half is not None:
                half(*args, **kwargs)
            elif self.moment == "after":
                real(*args, **kwargs)
            _die()

        return counted


def at(number: int, moment: str, counted: str) -> None:
    """Let this process die at its ``number``-th write (never for 0); a file holds how many there were.

    Args:
        number: Of the write, from 1.
        moment: One of ``MOMENTS``.
        counted: The file.
    """
    writes = _Writes(number, moment, counted)
    save, write = torch.save, pathlib.Path.write_text

    def half_saved(found: Any, stream: Any, *args: Any, **kwargs: Any) -> None:
        whole = io.BytesIO()
        save(found, whole, *args, **kwargs)
        part = whole.getvalue()[: whole.tell() // 2]
        if hasattr(stream, "write"):
            stream.write(part)
            stream.flush()
        else:
            pathlib.Path(stream).write_bytes(part)

    def half_written(path: pathlib.Path, text: str, *args: Any, **kwargs: Any) -> None:
        write(path, text[: len(text) // 2], *args, **kwargs)

    torch.save = writes.wrap(save, half_saved)
    pathlib.Path.write_text = writes.wrap(write, half_written)  # type: ignore[method-assign]
    os.replace = writes.wrap(os.replace)
    os.fsync = writes.wrap(os.fsync)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process went on")
