"""Model files that nobody should trust, byte by byte: pickles that call things, torn archives, odd tensors."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

# Callables that leave the witness behind, each with the arguments that make it do so.
CALLS: dict[str, tuple[object, ...]] = {
    "os system": ("touch WITNESS",),
    "posix system": ("touch WITNESS",),
    "os mkdir": ("WITNESS",),
    "subprocess getoutput": ("touch WITNESS",),
    "subprocess call": (["touch", "WITNESS"],),
    "builtins eval": ("open('WITNESS', 'w')",),
    "builtins exec": ("open('WITNESS', 'w')",),
    "builtins open": ("WITNESS", "w"),
    "builtins __import__": ("witness_module",),
    "importlib import_module": ("witness_module",),
    "runpy run_path": ("WITNESS.py",),
    "pathlib Path.touch": ("WITNESS",),
    "shutil copyfile": ("WITNESS.py", "WITNESS"),
    "pickle loads": (b"PICKLE",),
    "_pickle loads": (b"PICKLE",),
    "torch.storage _load_from_bytes": (b"PICKLE",),
    "torch.utils.collect_env run": ("touch WITNESS",),
    "numpy load": ("WITNESS.pickle", None, True),
    "joblib load": ("WITNESS.pickle",),
    "timeit timeit": ("open('WITNESS', 'w'); 1 / 0",),  # once, not a million times
    "cProfile run": ("open('WITNESS', 'w')",),
    "mcr.store.identity subprocess.getoutput": ("touch WITNESS",),
    "logging.config _resolve": ("witness_module",),
    "pydoc locate": ("witness_module",),
}
FORMS = ("global", "stack_global", "inst", "obj", "newobj", "newobj_ex", "build")
DRESSES = ("bare", "archive", "legacy", "nested")


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _argument(value: object, witness: Path) -> bytes:
    """What puts a value on the stack of an unpickler."""
    if isinstance(value, str):
        return _text(value.replace("WITNESS", str(witness)))
    if isinstance(value, list):
        return b"](" + b"".join(_argument(part, witness) for part in value) + b"e"
    if isinstance(value, bytes):
        raw = pickled_call("os system", "global", witness)
        return b"B" + struct.pack("<I", len(raw)) + raw
    return {None: b"N", False: b"\x89", True: b"\x88"}[value]  # type: ignore[index]


def pickled_call(name: str, form: str, witness: Path) -> bytes:
    """A pickle that calls something while it is loaded, by one of the ways that the format has.

    Only classes that act in ``__new__`` answer to the two forms of it: there is none known, and they stay harmless.
    """
    module, _, attribute = name.partition(" ")
    parts = [_argument(value, witness) for value in CALLS[name]]
    arguments, found = b"".join(parts), b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"
    stacked, whole = _text(module) + _text(attribute) + b"\x93", b"(" + arguments + b"t"
    body = {
        "global": found + whole + b"R",
        "stack_global": stacked + whole + b"R",
        "inst": b"(" + arguments + b"i" + module.encode() + b"\n" + attribute.encode() + b"\n",
        "obj": b"(" + found + arguments + b"o",
        "newobj": stacked + whole + b"\x81",
        "newobj_ex": stacked + whole + b"}\x92",
        # An object whose __setstate__ is the callable is given a state.
        "build": b"ccollections\nOrderedDict\n)R}" + _text("__setstate__") + stacked + b"sb" + parts[0] + b"b",
    }[form]
    return b"\x80\x04" + body + b"."


def dressed(content: bytes, dress: str) -> bytes:
    """A pickle as a file: bare, in torch's archive, in torch's form of before, or as an entry beside sound weights."""
    if dress == "bare":
        return content
    if dress == "legacy":
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
        system = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
        return magic + system + content + pickle.dumps([], 2)
    if dress == "nested":
        # {"state_dict": OrderedDict(), "args": <the call>}
        inner = content[2:-1]
        content = b"\x80\x04}" + _text("state_dict") + b"ccollections\nOrderedDict\n)Rs" + _text("args") + inner + b"s."
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return whole.getvalue()


def calls(witness: Path) -> Iterator[tuple[str, bytes]]:
    """Every callable by every form in every dress."""
    for name in CALLS:
        for form in FORMS:
            for dress in DRESSES:
                yield f"{name} {form} {dress}", dressed(pickled_call(name, form, witness), dress)


def _saved(found: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(found, stream, **options)
    return stream.getvalue()


def damaged(state: dict[str, Tensor], draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Sound files of three forms, cut short or with some bytes exchanged."""
    sound = {
        "archive": _saved(state),
        "legacy": _saved(state, _use_new_zipfile_serialization=False),
        "safetensors": save(state),
    }
    for form, content in sound.items():
        for _ in range(25):
            yield f"{form} cut short", content[: draw.randrange(len(content))]
            twisted = bytearray(content)
            for _ in range(draw.choice((1, 1, 2, 8))):
                twisted[draw.randrange(len(twisted))] = draw.randrange(256)
            yield f"{form} with other bytes", bytes(twisted)


def headers() -> Iterator[tuple[str, bytes]]:
    """Safetensors whose header lies."""

    def framed(header: bytes, body: bytes = b"\0" * 48, length: int | None = None) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + body

    def one(**changes: object) -> bytes:
        return json.dumps({"weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]} | changes}).encode()

    yield "a header beyond the file", framed(one(), length=2**40)
    yield "a header of no length", framed(b"")
    yield "a header that is no JSON", framed(b"{" * 64)
    yield "deeply nested", framed(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    yield "offsets beyond the file", framed(one(data_offsets=[0, 2**50]))
    yield "negative offsets", framed(one(data_offsets=[-8, 40]))
    yield "a shape that does not fit", framed(one(shape=[2**31, 2**31]))
    yield "a negative shape", framed(one(shape=[-3, -4]))
    yield "an unknown type", framed(one(dtype="EVIL"))
    many = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(200_000)}
    yield "very many tensors", framed(json.dumps(many).encode(), b"")


def greedy() -> Iterator[tuple[str, bytes]]:
    """Small files that ask for much memory or time."""
    grab = b"\x80\x04cbuiltins\nbytearray\n(J" + struct.pack("<i", 2_000_000_000) + b"tR."
    for dress in ("bare", "archive", "legacy"):
        yield f"two gigabytes by REDUCE {dress}", dressed(grab, dress)
    doubled = b"\x80\x04]" + b"".join(b"2\x85" for _ in range(64)) + b"."
    yield "a tuple of tuples", doubled
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 200_000_000)
    yield "an archive that unpacks to 200 MB", stream.getvalue()
    yield "a pickle of many marks", b"\x80\x04" + b"(" * 3_000_000 + b"."
    yield "a long name", dressed(b"\x80\x04}" + _text("w" * 1_000_000) + b"K\1s.", "archive")


def odd(state: dict[str, Tensor]) -> Iterator[tuple[str, bytes]]:
    """Files that load, with what is no state dict of a network, or names made for terminals."""
    shown = {"newline\nmcr: all is well": torch.ones(1), "\x1b[2J": torch.ones(1), "\u202eright": torch.ones(1)}
    for name, tensor in shown.items():
        yield f"a name {name!a}", _saved({**state, name: tensor})
        yield f"a name {name!a} in safetensors", save({**state, name: tensor})
    first = next(iter(state))
    whole = state[first]
    for kind, tensor in {
        "NaN": whole * float("nan"),
        "infinite": whole / 0,
        "complex": whole.to(torch.complex64),
        "sparse": whole.to_sparse(),
        "meta": whole.to("meta"),
        "boolean": whole.bool(),
        "of another shape": whole[..., None],
    }.items():
        yield kind, _saved({**state, first: tensor})
    for kind, found in {
        "nothing": None,
        "a number": 3,
        "a list": [whole],
        "a tensor": whole,
        "an empty dict": {},
        "a dict of dicts": {"a": {"b": {"c": {}}}},
        "numbers as names": {1: whole, 2: whole},
    }.items():
        yield kind, _saved(found)
    itself: dict[str, object] = {}
    itself["itself"] = itself
    yield "a dict that holds itself", _saved(itself)
    yield "a web page", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "empty", b""
    yield "zeros", b"\0" * 4096
