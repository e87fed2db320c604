"""Which tensors the records of a PyTorch file describe, and in which state dicts they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mcr.foreign.pickled import Global, Record

# torch's name of a type to safetensors' name of it, and bytes an element.
TYPES = {
    "float64": ("F64", 8),
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int64": ("I64", 8),
    "int32": ("I32", 4),
    "int16": ("I16", 2),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
    "uint16": ("U16", 2),
    "uint32": ("U32", 4),
    "uint64": ("U64", 8),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
}
STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
# Bytes an element of types that are not read, needed to pass over them.
OTHERS = {
    "untyped": 1,
    "complex64": 8,
    "complex128": 16,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
}
PLAIN = frozenset({"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"})
# Function to the position of the flags among its arguments.
REBUILT = {
    "torch._utils._rebuild_tensor": 4,
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
}
# A dict may lie in several places, or in itself: it is followed this often and to this depth.
MOST_PLACES, DEEPEST = 4, 6


@dataclass(frozen=True)
class Storage:
    """Numbers in the file, without a shape.

    Attributes:
        key: Its name in the file.
        dtype: torch's name of the type, or "untyped".
        elements: How many.
        bytes: How many.
    """

    key: str
    dtype: str
    elements: int
    bytes: int


@dataclass(frozen=True)
class View:
    """A dense tensor: where its elements lie in a storage.

    Attributes:
        storage: Key of the storage in the file.
        dtype: torch's name of the type.
        offset: Of the first element, in elements.
        size: Shape.
        stride: In elements.
    """

    storage: str
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A dict of the file with tensors in it.

    Attributes:
        path: The keys that lead there; none for the outermost one.
        views: Name to tensor.
        others: Name to what lies there: a tensor that is not dense, or something else.
    """

    path: tuple[str, ...]
    views: dict[str, View]
    others: dict[str, str]


def storage_of(record: Record) -> Storage:
    """A storage by what torch writes of it. Raises ValueError for what torch does not write."""
    tag, kind, key, _, elements, *rest = record.args
    if tag != "storage" or not isinstance(kind, Global) or not isinstance(key, str) or not _whole(elements):
        raise ValueError("a storage is described wrongly")
    if rest and rest[0] is not None:
        raise ValueError("it holds views of storages, which only the first versions of torch wrote")
    name = kind.path.rsplit(".", 1)[-1]
    dtype = "untyped" if name == "UntypedStorage" else STORAGES[name.removesuffix("Storage")]
    width = OTHERS[dtype] if dtype in OTHERS else TYPES[dtype][1]
    return Storage(key, dtype, elements, elements * width)


def tensor_of(value: Any) -> View | str | None:
    """The tensor that a value describes; in words what it is, where it is no dense one; None for what is none."""
    for _ in range(4):  # a parameter of a tensor with attributes is as much as torch writes
        if not isinstance(value, Record) or not value.kind.startswith("torch."):
            return None
        if value.kind in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            value = value.args[0]
        elif value.kind == "torch._tensor._rebuild_from_type_v2":
            function, kind, args, _ = value.args
            if kind.path not in PLAIN:
                return f"a {kind.path}"
            value = Record(function.path, args)
        elif value.kind in REBUILT:
            return _view(value)
        else:
            rebuilt = value.kind.startswith("torch._utils._rebuild_")
            return f"a {value.kind.removeprefix('torch._utils._rebuild_')}" if rebuilt else None
    return None


def _view(record: Record) -> View | str:
    storage, offset, size, stride, *rest = record.args
    if not isinstance(storage, Record) or storage.kind != "storage":
        raise ValueError("a tensor without a storage")
    kept = storage_of(storage)
    dtype = rest[2].path.removeprefix("torch.") if record.kind.endswith("_v3") else kept.dtype
    flags = rest[REBUILT[record.kind] - 4] if len(rest) > REBUILT[record.kind] - 4 else None
    if isinstance(flags, Record) and any(value for _, value in flags.pairs):
        return "a tensor whose conjugate or negative is stored"
    if dtype not in TYPES or storage.args[3] == "meta":
        return f"of the type {dtype}" if dtype not in TYPES else "without values"
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(map(_whole, numbers)):
        raise ValueError("a tensor's shape is described wrongly")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * TYPES[dtype][1] > kept.bytes:
        raise ValueError("a tensor reaches beyond its storage")
    return View(kept.key, dtype, offset, size, stride)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def items(value: Any) -> dict[Any, Any] | None:
    """What a dict-like object holds; None for any other."""
    if not isinstance(value, Record):
        return None
    pairs = value.pairs
    if value.kind == "collections.OrderedDict" and not pairs and value.args:  # as Python 2 wrote it
        pairs = [tuple(pair.parts) for pair in getattr(value.args[0], "parts", ())]
    named = {key: held for key, held in pairs if isinstance(key, str)}
    return named if pairs or value.kind in ("dict", "collections.OrderedDict", "collections.defaultdict") else None


def spoken(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, Record):
        if value.kind.split(".")[-1] == "_reconstructor" and value.args and isinstance(value.args[0], Global):
            return value.args[0].path
        return value.kind
    return value.path if isinstance(value, Global) else type(value).__name__


def entries(root: Any) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The dicts with tensors in them, outer before inner, in the order of the file; and what was left unread.

    Dicts are followed by their names alone: what an optimizer keeps lies below numbers.

    Returns:
        The entries; and of each object of a class or function beside them the names that lead there, joined by dots,
        and what it is.
    """
    found: list[Entry] = []
    unread: list[tuple[str, str]] = []
    for path, held in _dicts(root):
        views, others = {}, {}
        for name, value in held.items():
            tensor = tensor_of(value)
            if isinstance(tensor, View):
                views[name] = tensor
                continue
            others[name] = tensor or spoken(value)
            if tensor is None and isinstance(value, Record | Global) and "." in others[name] and items(value) is None:
                unread.append((".".join((*path, name)), others[name]))
        if views:
            found.append(Entry(path, views, others))
    return found, unread


def _dicts(root: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    seen: Counter[int] = Counter()
    for path, value in waiting:  # grows on the way
        held = items(value)
        if held is None or seen[id(value)] == MOST_PLACES or len(path) > DEEPEST:
            continue
        seen[id(value)] += 1
        yield path, held
        waiting += [((*path, name), inner) for name, inner in held.items() if isinstance(inner, Record)]
