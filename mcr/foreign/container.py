"""What a file of weights is, by its content, and where its records and its storages lie. Nothing of it is run."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from mcr.errors import InputError
from mcr.foreign.pickled import Machine
from mcr.foreign.tensors import Storage, storage_of

CHUNK = 1 << 22  # bytes at a time
LEGACY = 0x1950A86A20F9469CFC6C  # the first pickle of what torch wrote before 1.6
ADVICE = "save model.state_dict() with torch.save, or as safetensors"
# First bytes of what people give in the place of weights.
STRANGERS = {
    b"\x89HDF": "an HDF5 file (of Keras?)",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
    b"<": "a web page or XML, maybe of a download that failed",
}

Pieces = Callable[[str], Iterator[bytes]]
"""Gives the bytes of a storage by its key, a part at a time."""


def is_safetensors(head: bytes) -> bool:
    """By the first bytes: a length below 2**40 and a JSON object."""
    return head[8:9] == b"{" and head[5:8] == bytes(3)


def check_header(stream: IO[bytes]) -> None:
    """Raises InputError for safetensors whose header is no JSON object of what the file can hold."""
    length = int.from_bytes(stream.read(8), "little")
    try:
        header = json.loads(stream.read(length))
    except (ValueError, RecursionError):
        raise InputError("is no whole safetensors file: its header is no JSON") from None
    if not isinstance(header, dict):
        raise InputError("is no whole safetensors file: its header is no JSON object")


def read(stream: IO[bytes], most_bytes: float) -> tuple[Any, dict[str, Storage], Pieces]:
    """The records of a PyTorch file, each storage that they name by its key, and how to read one.

    A flipped byte is found where all storages are read to their end; all else of the file has been read then.

    Raises:
        InputError: Saying what the file is, for any other, and for one that unpacks to more than ``most_bytes``.
        Exception: Of any kind, for a damaged file.
    """
    head = stream.read(512)
    stream.seek(0)
    if head.startswith(b"PK"):
        return _zip(stream, most_bytes)
    if head.startswith(b"\x80"):
        return _legacy(stream)
    if not head:
        raise InputError("is empty: refused")
    known = next((what for first, what in STRANGERS.items() if head.lstrip().startswith(first)), None)
    if head[257:262] == b"ustar":
        known = "a tar archive, as the first versions of torch wrote"
    raise InputError(f"is {known or 'no PyTorch file and no safetensors file'}: refused; {ADVICE}")


def _zip(stream: IO[bytes], most_bytes: float) -> tuple[Any, dict[str, Storage], Pieces]:
    archive = zipfile.ZipFile(stream)
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > most_bytes:
        raise InputError(f"holds {size / 1e6:.1f} MB, the limit is {most_bytes / 1e6:g} MB (most_megabytes)")
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise InputError("is damaged: its archive has two members of one name")
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            "is a TorchScript program, which is code: refused; save its weights, "
            "torch.save(torch.jit.load(FILE).state_dict(), ...)"
        )
    tops = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(tops) != 1:
        if any(name.endswith(".npy") for name in names):
            raise InputError(f"is an archive of NumPy arrays: refused; {ADVICE}")
        raise InputError(f"is a zip archive, but no PyTorch file: refused; {ADVICE}")
    top = tops[0]
    if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
        raise InputError(f"was written by a big-endian machine: refused; {ADVICE} on another one")
    machine = Machine()
    root = machine.read(io.BytesIO(archive.read(f"{top}data.pkl")))
    sizes = _sizes(machine)
    for key, storage in sizes.items():
        if archive.getinfo(f"{top}data/{key}").file_size != storage.bytes:
            raise ValueError("a storage has another size than is written")
    later = {f"{top}data/{key}" for key in sizes}
    for name in sorted(names - later):
        for _ in _pieces(archive, name):
            pass
    return root, sizes, lambda key: _pieces(archive, f"{top}data/{key}")


def _pieces(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """The bytes of a member; its checksum is compared at their end."""
    with archive.open(name) as member:
        while piece := member.read(CHUNK):
            yield piece


def _legacy(stream: IO[bytes]) -> tuple[Any, dict[str, Storage], Pieces]:
    machine = Machine()
    first = machine.read(stream)
    if first != LEGACY:
        raise InputError(f"needs code to run when it is loaded, being a pickle that torch.save did not write: {ADVICE}")
    version, _ = machine.read(stream), machine.read(stream)
    if version != 1001:
        raise ValueError("its version is unknown")
    root = machine.read(stream)
    sizes, places = _sizes(machine), {}
    for key in machine.read(stream).parts:
        count = int.from_bytes(stream.read(8), "little")
        if key not in sizes or count != sizes[key].elements:
            raise ValueError("a storage has another size than is written")
        places[key] = stream.tell()
        stream.seek(sizes[key].bytes, io.SEEK_CUR)
    if stream.tell() > stream.seek(0, io.SEEK_END) or places.keys() != sizes.keys():
        raise ValueError("storages are missing")

    def pieces(key: str) -> Iterator[bytes]:
        stream.seek(places[key])
        left = sizes[key].bytes
        while left:
            piece = stream.read(min(left, CHUNK))
            left -= len(piece)
            yield piece

    return root, sizes, pieces


def _sizes(machine: Machine) -> dict[str, Storage]:
    found: dict[str, Storage] = {}
    for record in machine.storages:
        storage = storage_of(record)
        if found.setdefault(storage.key, storage) != storage:
            raise ValueError("a storage has two sizes")
    return found
