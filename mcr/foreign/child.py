"""The process that reads a file of weights: standard library only, limited in memory, time and what it may write.

It begins in a few hundredths of a second, since it imports no torch, and a fork of the program's own process would
have its threads and its memory in the limits. On macOS the limit of memory does not bind; there only what is read
speaks for little memory: records of a pickle, and storages a piece at a time.
"""

from __future__ import annotations

import json
import resource
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mcr.errors import InputError
from mcr.foreign import container, tensors
from mcr.foreign.pickled import Record
from mcr.foreign.tensors import Entry

BLOCKS = "blocks.safetensors"  # what is handed back beside the answer: each storage, flat, by its number
MOST_ANSWERED = 64_000_000  # letters; the names in a file are read by the program, which has no limits


def main(most_bytes: str, memory: str, seconds: str, folder: str) -> None:
    """Read the file that is the standard input, and answer in JSON.

    Args:
        most_bytes: A file that unpacks to more is refused.
        memory: Limit of the address space, bytes.
        seconds: Limit of the processor's time.
        folder: Where the storages are written to.
    """
    limits = {
        resource.RLIMIT_CPU: int(seconds),
        resource.RLIMIT_FSIZE: int(most_bytes) + MOST_ANSWERED,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform != "darwin":
        limits[resource.RLIMIT_AS] = int(memory)
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    answer = ""
    with suppress(MemoryError):
        answer = json.dumps(answer_of(sys.stdin.buffer, float(most_bytes), Path(folder)))
    if not answer:  # said here, where what took the memory is gone
        answer = json.dumps({"refused": f"needs more than {int(memory) / 1e6:.0f} MB of memory to be read: refused"})
    print(answer if len(answer) <= MOST_ANSWERED else json.dumps({"refused": "has too many or too long names"}))


def answer_of(stream: IO[bytes], most_bytes: float, folder: Path) -> dict[str, Any]:
    """What a file holds, its storages written to a folder; or why it is refused."""
    try:
        return _read(stream, most_bytes, folder)
    except MemoryError:
        raise
    except InputError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"refused": f"cannot be copied to {folder} to be read: {error.strerror or error}"}
    except Exception as error:  # whatever a parser stumbles over in a hostile file is a reason to refuse it
        known = isinstance(error, ValueError | zipfile.BadZipFile | EOFError)
        said = (str(error).splitlines() or [""])[0] if known else "its records make no sense"
        return {"refused": f"is damaged or cut short: {said}"}


def _read(stream: IO[bytes], most_bytes: float, folder: Path) -> dict[str, Any]:
    head = stream.read(16)
    stream.seek(0)
    if container.is_safetensors(head):
        container.check_header(stream)
        return {"form": "safetensors"}
    root, storages, pieces = container.read(stream, most_bytes)
    found, unread = tensors.entries(root)
    told = ", ".join(f"{name} ({what})" for name, what in unread[:5])
    if tensors.items(root) is None:
        if tensors.tensor_of(root) is not None:
            raise InputError(f"holds a single tensor, no state dict: {container.ADVICE}")
        if isinstance(root, Record) and "." in root.kind:
            what = f"is an object ({tensors.spoken(root)}) that needs code to run when it is loaded: refused"
            raise InputError(f"{what}; {container.ADVICE}")
        raise InputError(f"holds a {tensors.spoken(root)}, no state dict: {container.ADVICE}")
    if not found:
        raise InputError(f"holds no state dict{f' (left unread: {told})' if told else ''}: {container.ADVICE}")
    numbers: dict[tuple[str, str], int] = {}
    for entry in found:
        for view in entry.views.values():
            numbers.setdefault((view.storage, view.dtype), len(numbers))
    _write(numbers, storages, pieces, folder / BLOCKS)
    return {"form": "torch", "entries": [_answer(entry, numbers) for entry in found], "unread": unread}


def _answer(entry: Entry, numbers: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    views = {
        name: (numbers[view.storage, view.dtype], view.offset, view.size, view.stride)
        for name, view in entry.views.items()
    }
    return {"path": entry.path, "views": views, "others": entry.others}


def _write(
    numbers: Mapping[tuple[str, str], int],
    storages: Mapping[str, tensors.Storage],
    pieces: container.Pieces,
    path: Path,
) -> None:
    """Each storage as a flat tensor called by its number, those of wide types first, so that all are aligned."""
    header, begin = {}, 0
    order = sorted(numbers, key=lambda block: -tensors.TYPES[block[1]][1])
    for key, dtype in order:
        code, width = tensors.TYPES[dtype]
        length = storages[key].bytes // width * width
        header[str(numbers[key, dtype])] = {
            "dtype": code,
            "shape": [length // width],
            "data_offsets": [begin, begin + length],
        }
        begin += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for key, dtype in order:
            width = tensors.TYPES[dtype][1]
            left = storages[key].bytes // width * width
            for piece in pieces(key):
                out.write(piece[:left])
                left -= min(left, len(piece))
    for key in storages.keys() - {key for key, _ in numbers}:
        for _ in pieces(key):  # a file with a flipped byte anywhere is refused
            pass
