"""A user's file of weights as tensors; a model file is hostile until loaded safely: nothing here runs code from it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import mcr
from mcr.errors import InputError
from mcr.foreign.child import BLOCKS
from mcr.foreign.shards import shards
from mcr.text import printable

# The reader keeps no storage in memory, so beyond a file's own size it needs the interpreter (15 MB) and the records of
# the pickle: a file of a million entries takes 400 MB.
OVERHEAD_MEGABYTES = 512
# Reading, checksums and writing take a processor a second for 300 MB or more, a million entries four seconds.
SECONDS, MEGABYTES_A_SECOND = 60, 50
START = "import sys; sys.path.append(sys.argv[1]); from mcr.foreign.child import main; main(*sys.argv[2:])"


@dataclass(frozen=True, eq=False)
class Entry:
    """A dict of the file with tensors in it.

    Attributes:
        path: The keys that lead there; none for the outermost one.
        tensors: Name to tensor, maybe a view of memory that others have too.
        others: Name to what lies there: a tensor that is not dense, or something else.
    """

    path: tuple[str, ...]
    tensors: dict[str, Tensor]
    others: dict[str, str]


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        path: The file.
        entries: One or more.
        unread: Objects of classes and functions that lie beside the weights, as "name (class)".
    """

    path: Path
    entries: tuple[Entry, ...]
    unread: tuple[str, ...] = ()


def refusal(path: Path, why: str) -> InputError:
    """One line that begins with the file."""
    return InputError(f"{printable(str(path), 1000)} {why}")


def read(path: Path, most_megabytes: float) -> Contents:
    """Everything in a file that is a tensor: safetensors, a PyTorch file, or an index of either.

    What a file is shows in its content, not in its name. It is read by a process of its own, within limits of memory
    and of the processor's time; objects in it are left unread, whatever they are.

    Args:
        path: The file.
        most_megabytes: A larger file is refused before it is read, and so is an archive that would unpack to more.

    Raises:
        InputError: In one line, for a file that is too large, is code, is damaged, is something else, or holds no
            tensors.
    """
    if path.is_dir():
        raise refusal(path, "is a folder: name the file of weights in it")
    try:
        parts = shards(path) if path.is_file() else []
    except OSError as error:
        raise _unreadable(path, error) from None
    if not parts:
        return _read(path, most_megabytes)
    tensors: dict[str, Tensor] = {}
    unread: list[str] = []
    for part in parts:
        found = _read(part, most_megabytes)
        unread += found.unread
        if len(found.entries) != 1 or found.entries[0].path or found.entries[0].others:
            raise refusal(part, "is no part of a state dict: it holds more than tensors")
        if twice := found.entries[0].tensors.keys() & tensors.keys():
            raise refusal(part, f"holds {printable(min(twice))}, which another part has too")
        tensors |= found.entries[0].tensors
    return Contents(path, (Entry((), tensors, {}),), tuple(unread))


def _read(path: Path, most_megabytes: float) -> Contents:
    try:
        # A pipe without a writer would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            megabytes = _size(path, stream, most_megabytes)
            with tempfile.TemporaryDirectory(prefix="mcr-weights-") as folder:
                answer = _ask(path, stream, megabytes, most_megabytes, folder)
                if answer["form"] == "torch":
                    blocks = load_file(Path(folder) / BLOCKS)
                    entries = tuple(_entry(entry, blocks) for entry in answer["entries"])
                    unread = tuple(printable(f"{name} ({what})") for name, what in answer["unread"])
                    return Contents(path, entries, unread)
        tensors = load_file(path)
    except SafetensorError as error:
        raise refusal(path, f"is no whole safetensors file: {printable(str(error))}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not tensors:
        raise refusal(path, "holds no state dict: it has no tensors")
    return Contents(path, (Entry((), tensors, {}),))


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {printable(str(path), 1000)}: {error.strerror or error}")


def _size(path: Path, stream: IO[bytes], most_megabytes: float) -> float:
    """Megabytes of a plain file. Raises InputError for any other, and for one that is too large."""
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise refusal(path, "is no plain file")
    if found.st_size == 0:  # see ``file_digest``
        raise refusal(path, "is empty: refused")
    megabytes = found.st_size / 1e6
    if megabytes > most_megabytes:
        raise refusal(path, f"holds {megabytes:.1f} MB, the limit is {most_megabytes:g} MB (most_megabytes)")
    return megabytes


def _ask(path: Path, stream: IO[bytes], megabytes: float, most_megabytes: float, folder: str) -> dict[str, Any]:
    """What the process that reads the file answers, in the time and memory that it has."""
    memory = int((most_megabytes + OVERHEAD_MEGABYTES) * 1e6)
    seconds = int(SECONDS + megabytes / MEGABYTES_A_SECOND)
    package = str(Path(mcr.__file__).parents[1])
    # Isolated: no variable, no folder of the user's and no other package decides what is imported there.
    command = [sys.executable, "-I", "-S", "-B", "-c", START, package]
    command += [str(int(most_megabytes * 1e6)), str(memory), str(seconds), folder]
    done = subprocess.run(command, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if done.returncode == -signal.SIGXCPU:
        raise refusal(path, f"takes more than {seconds} s to be read: refused")
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise refusal(path, f"cannot be read: its reader ended with status {done.returncode}") from None
    if "refused" in answer:
        raise refusal(path, printable(answer["refused"], 1000))
    return answer


def _entry(answer: dict[str, Any], blocks: dict[str, Tensor]) -> Entry:
    tensors = {}
    for name, (number, offset, size, stride) in answer["views"].items():
        block = blocks[str(number)]
        if block.dtype == torch.bool:
            block = block.view(torch.uint8) != 0  # other bytes than 0 and 1 are no truth values
        tensors[name] = block.as_strided(size, stride, offset)
    return Entry(tuple(answer["path"]), tensors, answer["others"])
