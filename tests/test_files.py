"""Files of weights: read as what they are by their content, whatever they are called; hostile until loaded safely."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import pickle
import pickletools
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from mcr.errors import InputError
from mcr.foreign import child, pickled, reading, shards
from mcr.foreign.fit import fit_into
from mcr.text import printable
from mcr.weightspace import files

LIMIT = 10.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


STATE = network().state_dict()


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


class Called:
    """Is pickled as a call."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


HARMLESS = {
    "args": argparse.Namespace(lr=0.1),
    "best": np.float64(94.2),
    "loss": functools.partial(max, 3),
    "folder": Path("runs"),
    "config": OmegaConf.create({"lr": 0.1}),
    "when": datetime.datetime(2020, 1, 1),
    "meters": defaultdict(list, a=[1]),
    "numpy": np.random.RandomState(0).get_state(),
    "torch": torch.get_rng_state(),
    "optimizer": torch.optim.Adam(network().parameters()).state_dict(),
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize(
    "state",
    [
        STATE,
        dict(STATE),
        {name: nn.Parameter(tensor) for name, tensor in STATE.items() if tensor.is_floating_point()},
        {name: tensor.bfloat16() for name, tensor in STATE.items()},
        network().to(memory_format=torch.channels_last).state_dict(),
        {"part": torch.arange(10.0)[3:7], "step": torch.arange(10)[::3], "turned": torch.rand(3, 4).T},
        {"scalar": torch.tensor(3), "none": torch.zeros(0, 4), "truth": torch.tensor([True, False])},
    ],
    ids=["OrderedDict", "dict", "parameters", "bfloat16", "channels last", "views", "odd shapes"],
)
def test_tensors_are_as_torch_reads_them(state, new: bool, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    expected = torch.load(tmp_path / "model.pt", weights_only=True)
    (entry,) = reading.read(tmp_path / "model.pt", LIMIT).entries
    assert not entry.others
    for name, tensor in expected.items():
        assert entry.tensors[name].dtype == tensor.dtype
        assert entry.tensors[name].shape == tensor.shape
        assert torch.equal(entry.tensors[name].double(), tensor.double())


def test_types_that_torch_stores_without_a_type_are_read(tmp_path: Path) -> None:
    state = {"a": torch.ones(3).to(torch.float8_e4m3fn), "b": torch.arange(3).to(torch.uint16)}
    torch.save(state, tmp_path / "model.pt")
    found = reading.read(tmp_path / "model.pt", LIMIT).entries[0].tensors
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in found.items()} == {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in state.items()
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_objects_beside_the_weights_are_left_unread_and_told(new: bool, tmp_path: Path) -> None:
    hook = Called(os.mkdir, str(tmp_path / "created"))
    torch.save({"net": STATE, **HARMLESS, "hook": hook}, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    found = reading.read(tmp_path / "model.pt", LIMIT)
    assert same(next(entry.tensors for entry in found.entries if entry.path == ("net",)), STATE)
    told = " ".join(found.unread)
    for words in ("args (argparse.Namespace)", "loss (functools.partial)", "config (omegaconf", "hook (posix.mkdir)"):
        assert words in told
    assert "best (numpy" in told
    assert not (tmp_path / "created").exists()


def test_a_dict_in_several_places_and_in_itself_is_found_in_each(tmp_path: Path) -> None:
    whole: dict[str, Any] = dict(STATE)
    for _ in range(5):  # 32 ways lead to the innermost one
        whole = {"a": whole, "b": whole}
    whole["c"] = whole
    torch.save(whole, tmp_path / "model.pt")
    assert 1 <= len(reading.read(tmp_path / "model.pt", LIMIT).entries) <= 4
    torch.save({"ema": STATE, "net": STATE}, tmp_path / "model.pt")
    assert {entry.path for entry in reading.read(tmp_path / "model.pt", LIMIT).entries} == {("ema",), ("net",)}


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    for name in ("w.bin", "w.pth", "w.SAFETENSORS", "w"):
        save_file(STATE, tmp_path / name)
        assert same(reading.read(tmp_path / name, LIMIT).entries[0].tensors, dict(STATE))
    torch.save(STATE, tmp_path / "t.safetensors")
    assert same(reading.read(tmp_path / "t.safetensors", LIMIT).entries[0].tensors, dict(STATE))


def index(folder: Path, suffix: str, weight_map: Any = None) -> Path:
    """An index of two files that hold the state."""
    names = list(STATE)
    for number, part in enumerate((names[:4], names[4:])):
        tensors = {name: STATE[name] for name in part}
        path = folder / f"part{number}{suffix}"
        save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    found = {name: f"part{int(number > 3)}{suffix}" for number, name in enumerate(names)}
    path = folder / f"model{suffix}.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": found if weight_map is None else weight_map}, indent=2))
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_an_index_stands_for_its_files_and_their_digests_for_its_own(suffix: str, tmp_path: Path) -> None:
    path = index(tmp_path, suffix)
    assert same(reading.read(path, LIMIT).entries[0].tensors, dict(STATE))
    before = shards.weights_digest(str(path))
    part = tmp_path / f"part1{suffix}"
    part.write_bytes(part.read_bytes() + b"\0")
    assert shards.weights_digest(str(path)) != before
    with pytest.raises(InputError, match=r"the files of .* hold .* MB, the limit"):
        shards.weights_digest(str(path), 1.5e-6 * path.stat().st_size)
    part.unlink()
    with pytest.raises(InputError, match=f"cannot read .*part1{suffix}"):
        shards.weights_digest(str(path))


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"w": "../a.pt"}, "names ../a.pt: files beside it"),
        ({"w": "/etc/passwd"}, "files beside it"),
        ({"w": "a\0b"}, r"names a\\x00b"),
        ({"w": 3}, "no index"),
        ([], "no index"),
        ({}, "files beside it"),
    ],
)
def test_an_index_names_files_beside_it_and_nothing_else(weight_map, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        shards.weights_digest(str(index(tmp_path, ".bin", weight_map)))


def with_opcodes(*parts: bytes) -> bytes:
    """A state dict of the old form whose pickle has some opcodes in the place of its value."""
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."
    return head + b"\x80\x02" + b"".join(parts) + b"." + b"\x80\x02]."


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(name, content)

    return write


def cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(kept: bool, path: Path) -> None:
    """A byte of the weights, or of what an optimizer keeps beside them."""
    beside = torch.arange(20.0)
    torch.save({"net": STATE, "optimizer": {0: beside}}, path)
    whole = bytearray(path.read_bytes())
    whole[whole.find((STATE["0.weight"] if kept else beside).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(whole)


def spanning(path: Path) -> None:
    """Says that it is one disk of two, which makes ``zipfile.is_zipfile`` raise."""
    torch.save(STATE, path)
    whole = path.read_bytes()
    end = whole.rfind(b"PK\x05\x06")
    path.write_bytes(whole[:end] + b"PK\x06\x07" + bytes(12) + b"\2\0\0\0" + whole[end:])


def twice(path: Path) -> None:
    torch.save(STATE, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"")


def scripted(path: Path) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning)):
        torch.jit.script(nn.Linear(2, 2)).save(str(path))


CREATED = b"cos\nmkdir\n(X\x07\x00\x00\x00createdtR"
REFUSED: dict[str, tuple[bytes | Callable[[Path], object], str]] = {
    "pickle of code": (pickle.dumps(Called(os.mkdir, "created")), "needs code to run"),
    "pickle of text opcodes": (b"cos\nmkdir\n(S'created'\ntR.", "is no PyTorch file and no safetensors"),
    "call": (with_opcodes(CREATED), r"an object \(os.mkdir\) that needs code to run"),
    "call of a call": (with_opcodes(b"cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR(tR"), "needs code"),
    "INST": (with_opcodes(b"(X\x07\x00\x00\x00createdios\nmkdir\n"), r"\(os.mkdir\)"),
    "OBJ": (with_opcodes(b"(cos\nmkdir\nX\x07\x00\x00\x00createdo"), r"\(os.mkdir\)"),
    "NEWOBJ": (with_opcodes(b"csubprocess\nPopen\n(X\x07\x00\x00\x00createdt\x81"), r"\(subprocess.Popen\)"),
    "STACK_GLOBAL": (with_opcodes(b"\x8c\x02os\x8c\x05mkdir\x93)R"), r"\(os.mkdir\)"),
    "dotted name": (with_opcodes(b"\x8c\x05torch\x8c\x0eserialization.\x93)R"), "needs code"),
    "EXT": (with_opcodes(b"\x82\x01)R"), "needs code"),
    "PERSID": (with_opcodes(b"Pcreated\n"), "is damaged"),
    "BUILD of a function": (with_opcodes(b"cos\nmkdir\n}b"), "is damaged"),
    "load from bytes": (with_opcodes(b"ctorch.storage\n_load_from_bytes\n(C\x01ztR"), "needs code"),
    "memory by a call": (with_opcodes(b"cbuiltins\nbytearray\n(J\x00\x00\x00\x7ftR"), "bytearray.* needs code"),
    "memory by an index": (with_opcodes(b"}r\xff\xff\xff\x7f"), "holds no state dict"),
    "memory by a length": (with_opcodes(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f"), "needs more than 522 MB|damaged"),
    "depth": (with_opcodes(b"(" + b"\x85" * 200_000), "is damaged|holds a tuple"),
    "whole module": (lambda path: torch.save(network(), path), "needs code to run .*: refused"),
    "list": (lambda path: torch.save([1], path), "holds a list, no state dict"),
    "tensor": (lambda path: torch.save(torch.ones(2), path), "holds a single tensor"),
    "no tensors": (lambda path: torch.save({"epoch": 3, "net": network()}, path), r"no state dict .*net \(torch"),
    "text": (b"not a model", "is no PyTorch file and no safetensors"),
    "empty": (b"", "is empty: refused"),
    "cut short": (cut, "is damaged or cut short"),
    "flipped byte": (functools.partial(flipped, True), "is damaged or cut short: Bad CRC"),
    "flipped byte beside": (functools.partial(flipped, False), "is damaged or cut short: Bad CRC"),
    "spanning disks": (spanning, "is damaged .* span multiple disks"),
    "member twice": (twice, "two members of one name"),
    "zip of something else": (zipped("readme", b"hello"), "a zip archive, but no PyTorch file"),
    "archive that unpacks to more": (zipped("a/data.pkl", bytes(11_000_000), zipfile.ZIP_DEFLATED), "holds 11.0 MB"),
    "NumPy archive": (zipped("a.npy", b"\x93NUMPY"), "an archive of NumPy arrays"),
    "TorchScript": (scripted, "is a TorchScript program"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "web page": (b"<!DOCTYPE html>", "a web page"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    "JSON": (b'{"a": 1}', "is JSON, but no index"),
    "safetensors of a cut header": ((400).to_bytes(8, "little") + b'{"a": ', "no whole safetensors"),
    "safetensors of a deep header": ((10**5).to_bytes(8, "little") + b'{"a":' * 20_000, "no whole safetensors"),
    "safetensors without its data": (
        (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(64),
        "no whole safetensors",
    ),
    "larger than the limit": (bytes(10_000_001), "holds 10.0 MB, the limit is 10 MB"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "pipe": (lambda path: os.mkfifo(path), "is no plain file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is no plain file"),
    "file of the system that may never end": (
        lambda path: path.symlink_to("/proc/self/status"),
        "is empty|cannot read",
    ),
    "missing": (lambda path: None, "cannot read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_file_of_weights_is_refused_in_one_line_and_nothing_runs(
    kind: str, tmp_path: Path, monkeypatch
) -> None:
    content, words = REFUSED[kind]
    path = tmp_path / "model.pt"
    monkeypatch.chdir(tmp_path)
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    with pytest.raises(InputError, match=words) as caught:
        reading.read(path, LIMIT)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert os.listdir(tmp_path) in (["model.pt"], [])


def test_whatever_is_called_beside_the_weights_costs_neither_memory_nor_time(tmp_path: Path, monkeypatch) -> None:
    """Of functions that ``weights_only`` allows: here they are no more than names."""
    monkeypatch.setattr(reading, "OVERHEAD_MEGABYTES", 60)
    torch.save({"net": STATE, "hook": Called(bytearray, 2_000_000_000)}, tmp_path / "model.pt")
    assert reading.read(tmp_path / "model.pt", LIMIT).unread == ("hook (__builtin__.bytearray)",)


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="RLIMIT_AS does not bind there")
def test_a_file_that_takes_more_than_its_memory_is_refused_by_the_limit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "OVERHEAD_MEGABYTES", 60)
    (tmp_path / "model.pt").write_bytes(with_opcodes(b"]" * 800_000))
    with pytest.raises(InputError, match="needs more than 70 MB of memory"):
        reading.read(tmp_path / "model.pt", LIMIT)


def test_a_file_that_takes_more_than_its_time_is_refused_by_the_limit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "SECONDS", 1)
    (tmp_path / "model.pt").write_bytes(with_opcodes(b"N0" * 4_000_000))
    with pytest.raises(InputError, match="takes more than 1 s"):
        reading.read(tmp_path / "model.pt", LIMIT)


def test_every_cut_and_every_flipped_byte_is_a_refusal_or_changes_no_weight(tmp_path: Path) -> None:
    """In this process, by the function that the child calls; of the old form, whose weights have no checksum, cuts."""
    draw = np.random.default_rng(0)
    for new in (True, False):
        torch.save({"w": torch.arange(3.0)}, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
        whole = (tmp_path / "w.pt").read_bytes()
        expected = blocks(whole, tmp_path)
        assert expected is not None
        for length in draw.integers(0, len(whole), 150):
            assert blocks(whole[: int(length)], tmp_path) is None
        for place in draw.integers(0, len(whole), 300) if new else []:
            changed = bytearray(whole)
            changed[place] ^= int(draw.integers(1, 256))
            assert blocks(bytes(changed), tmp_path) in (None, expected)


def blocks(content: bytes, folder: Path) -> bytes | None:
    """The storages that a file gives; None where it is refused, in one line."""
    (folder / "d.pt").write_bytes(content)
    with (folder / "d.pt").open("rb") as stream:
        answer = child.answer_of(stream, 1e7, folder)
    assert "\n" not in answer.get("refused", "")
    return None if "refused" in answer else (folder / child.BLOCKS).read_bytes()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((4,), (1,), 0),
        ((2, 2), (2, 1), 0),
        ((1,), (1,), 3),
        ((2,), (-1,), 2),
        ((2**40, 2**40), (1, 1), 0),
        ((1,), (1,), True),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(size, stride, offset, tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self):
            storage = torch.arange(3.0).storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a storage with a type, once
        torch.save({"w": Crafted()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"beyond its storage|described wrongly"):
        reading.read(tmp_path / "model.pt", LIMIT)


def test_a_huge_shape_over_a_tiny_storage_takes_no_memory(tmp_path: Path) -> None:
    torch.save({**STATE, "0.bias": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"0\.bias differs in shape: \(1000000, 1000000\)"):
        fit_into(network(), reading.read(tmp_path / "model.pt", LIMIT))


def test_names_in_a_file_reach_the_terminal_in_one_line_without_its_commands(tmp_path: Path) -> None:
    for name in ("a\nmcr: all is well", "\x1b[2Jgone", "\u202etxt", "x" * 10**6):
        save_file({**STATE, name: torch.zeros(1)}, tmp_path / "model.pt")
        with pytest.raises(InputError, match="unexpected") as caught:
            fit_into(network(), reading.read(tmp_path / "model.pt", LIMIT))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
    assert printable("0.weight é 名") == "0.weight é 名"


def test_every_opcode_of_pickle_is_known() -> None:
    known = {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GET", "MARK"}
    known |= {"PROTO", "FRAME", "STOP"}
    known |= {*pickled.VALUES, *pickled.CONSTANTS, *pickled.EMPTY, *pickled.TUPLES}
    left = {code.name for code in pickletools.opcodes} - known
    assert all(hasattr(pickled.Machine, f"_{name.lower()}") for name in left)


def test_saving_tied_weights_keeps_every_name(tmp_path: Path) -> None:
    first = nn.Linear(3, 3)
    tied = nn.Sequential(first, first)
    files.save(tied.state_dict(), tmp_path / "w.safetensors")
    loaded = files.load(tmp_path / "w.safetensors")
    assert set(loaded) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    tied.load_state_dict(loaded, strict=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 7)),
            "it tells 7 classes apart, and the data have 5",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)),
            "it tells 2 classes apart, and the data have 5",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 5)),
            "it takes images of 1 channels, and the data have 3",
        ),
        (nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6, 5)), r"in the network$"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 7)), r"in the network$"),
        (nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4, 5)), r"in the network$"),
    ],
    ids=["more classes", "fewer classes", "channels", "wider", "classes and channels", "larger kernel"],
)
def test_a_network_for_other_data_is_told_from_another_network(given: nn.Module, said: str, tmp_path: Path) -> None:
    files.save(given.state_dict(), tmp_path / "a.safetensors")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(InputError, match=said):
        fit_into(network, reading.read(tmp_path / "a.safetensors", 10))
