"""What a pickle would build, as plain records. Nothing is imported, called or asked for an attribute by name.

A PyTorch file describes its tensors by a pickle, which is a program: ``torch.load(weights_only=True)`` runs the part of
it that is allowed, and refuses the file for anything else, harmless or not. Here no part is run: each opcode, as the
standard library's disassembler reads it, moves records on a stack. An ``argparse.Namespace`` beside the weights costs
nothing then, and neither does a call of ``bytearray(10**10)``.
"""

from __future__ import annotations

from pickletools import genops
from typing import IO, Any, cast


class Global:
    """A name that unpickling would import: "module.name"."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Record:
    """An object that unpickling would build.

    Attributes:
        kind: "list", "dict", "set", "storage" (a persistent id), or what would be called: "module.name", always with
            a dot.
        args: Of the call.
        parts: What was appended.
        pairs: What was set as items.
        state: What its state would have been set to.
    """

    __slots__ = ("args", "kind", "pairs", "parts", "state")

    def __init__(self, kind: str, args: Any = ()) -> None:
        self.kind, self.args, self.state = kind, args, None
        self.parts: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []


VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": "list", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """Reads one pickle after the other from a stream.

    Attributes:
        storages: The records of all persistent ids so far.
    """

    def __init__(self) -> None:
        self.storages: list[Record] = []
        self.stack: list[Any] = []
        self.marks: list[int] = []

    def read(self, stream: IO[bytes]) -> Any:
        """The value of the next pickle: numbers, text, tuples of values, names (Global) and records.

        Raises:
            Exception: Of any kind, for what is no pickle.
        """
        self.stack, self.marks = [], []
        memo: dict[int, Any] = {}
        stack = self.stack
        for opcode, found, _ in genops(stream):
            name, argument = opcode.name, cast(Any, found)
            if name in VALUES:
                stack.append(argument)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[int(argument)] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[int(argument)])
            elif name == "MARK":
                self.marks.append(len(stack))
            elif name in EMPTY:
                stack.append(Record(EMPTY[name]))
            elif name in TUPLES:
                self._tuple(TUPLES[name])
            elif name not in ("PROTO", "FRAME", "STOP"):
                getattr(self, f"_{name.lower()}")(argument)
        return stack.pop()

    def _cut(self) -> list[Any]:
        """What lies above the last mark, taken off."""
        begin = self.marks.pop()
        part = self.stack[begin:]
        del self.stack[begin:]
        return part

    def _tuple(self, count: int | None) -> None:
        if count is None:
            self.stack.append(tuple(self._cut()))
        else:
            self.stack[-count:] = [tuple(self.stack[-count:])]

    def _called(self, what: Any, args: Any) -> None:
        self.stack.append(Record(what.path if isinstance(what, Global) else "(no name).call", args))

    def _record(self, kind: str) -> Record:
        found = self.stack[-1]
        if not isinstance(found, Record):
            raise ValueError(f"{kind} of what is no object")
        return found

    def _list(self, _: None) -> None:
        made = Record("list")
        made.parts = self._cut()
        self.stack.append(made)

    def _dict(self, _: None) -> None:
        part = self._cut()
        made = Record("dict")
        made.pairs = list(zip(part[::2], part[1::2], strict=True))
        self.stack.append(made)

    def _frozenset(self, _: None) -> None:
        self._cut()
        self.stack.append(Record("set"))

    def _append(self, _: None) -> None:
        part = self.stack.pop()
        self._record("append").parts.append(part)

    def _appends(self, _: None) -> None:
        part = self._cut()
        self._record("append").parts.extend(part)

    _additems = _appends

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._record("item").pairs.append((key, value))

    def _setitems(self, _: None) -> None:
        part = self._cut()
        self._record("item").pairs.extend(zip(part[::2], part[1::2], strict=True))

    def _pop(self, _: None) -> None:
        # A mark counts as a value to this opcode.
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._cut()

    def _dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _global(self, path: str) -> None:
        self.stack.append(Global(path.replace(" ", ".", 1)))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(f"{module:s}.{name:s}"))

    def _reduce(self, _: None) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        self._called(what, args)

    _newobj = _reduce

    def _newobj_ex(self, _: None) -> None:
        self.stack.pop()
        self._reduce(None)

    def _inst(self, path: str) -> None:
        self._called(Global(path.replace(" ", ".", 1)), tuple(self._cut()))

    def _obj(self, _: None) -> None:
        what, *args = self._cut()
        self._called(what, tuple(args))

    def _build(self, _: None) -> None:
        state = self.stack.pop()
        self._record("state").state = state

    def _persid(self, name: str) -> None:
        self.stack.append(name)
        self._binpersid(None)

    def _binpersid(self, _: None) -> None:
        args = self.stack.pop()
        if isinstance(args, tuple) and args[:1] == ("module",):  # torch before 1.6: a class with its source beside it
            self.stack.append(args[1])
            return
        self.storages.append(Record("storage", args))
        self.stack.append(self.storages[-1])

    def _ext1(self, number: int) -> None:
        self.stack.append(Global(f"extension.{number}"))

    _ext2 = _ext4 = _ext1

    def _next_buffer(self, _: None) -> None:
        raise ValueError("it needs buffers from outside")

    _readonly_buffer = _next_buffer
