"""Pickles from strangers: plain data, and calls of listed functions alone.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the program names. Here
it has the instructions that plain data needs, and no others. A global name must be a key of `allowed`, where the
caller has put a function that is safe with any arguments; nothing is imported, and nothing else is called.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar, Protocol

# What a damaged program makes of the machine, of Python's decoders, and of functions that are given anything at all.
DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, IndexError, KeyError, MemoryError, RecursionError),
    *(TypeError, ValueError, pickle.UnpicklingError, struct.error),
)
# What protocols 2 to 5 have for numbers, text, lists, tuples, dictionaries, and what was met before.
INSTRUCTIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
    *("LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
)
KEYS = (str, bytes, int)  # of dictionaries: the hash of a deeply nested tuple would exhaust the C stack


class Stream(Protocol):
    """What a pickle is read from: a file, an `io.BytesIO` or an `mmap`."""

    def read(self, count: int, /) -> bytes:
        """At most that many bytes."""

    def readline(self) -> bytes:
        """The bytes up to the end of a line."""


class Refused(ValueError):
    """The pickle is not plain data: it has a name that is not allowed, or another instruction."""


def load(
    stream: Stream,
    allowed: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The object that the pickle at the stream's position describes; the stream then stands behind it.

    The text of Python 2 becomes bytes. allowed: functions by the global name, "module.name", that the pickle has for
    them. What they return is given a state if its class has a `__setstate__` in Python, which must be safe with any;
    that of an array or a dtype is not, and could make it read beyond its memory. persistent: the object that a
    persistent id stands for. Memory is bounded by the length of the pickle, but for what these functions take.

    Raises ValueError: `Refused` for what is no plain data, else for damage.
    """
    try:
        return _Unpickler(stream, allowed, persistent).load()
    except Refused:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"expected a pickle of plain data, got a damaged one ({reason})") from error


def loads(
    content: bytes,
    allowed: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The same of a pickle in memory."""
    return load(io.BytesIO(content), allowed, persistent)


class _Unpickler(pickle._Unpickler):
    """Python's unpickler in the form whose table of instructions can be cut, and whose memo is a dictionary."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        stream: Stream,
        allowed: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(stream, encoding="bytes")
        self.allowed, self.persistent = allowed, persistent

    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole not in self.allowed:
            raise Refused(f"the pickle has the name {whole[:80]!r}, which is not allowed")
        return _Function(self.allowed[whole])

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise Refused("the pickle has a persistent id, which plain data does not need")
        return self.persistent(pid)

    def set_items(self, items: list[Any]) -> None:
        keys = items[::2]
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, KEYS) for key in keys):
            raise TypeError("it sets items of no dictionary, or with keys that are no text")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def set_state(self) -> None:
        state = self.stack.pop()
        if not isinstance(getattr(type(self.stack[-1]), "__setstate__", None), FunctionType):
            raise TypeError("it sets the state of what has none")
        self.stack[-1].__setstate__(state)

    dispatch: ClassVar[dict[int, Any]] = {
        **{
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in INSTRUCTIONS
        },
        pickle.SETITEM[0]: lambda machine: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
        pickle.SETITEMS[0]: lambda machine: machine.set_items(machine.pop_mark()),
        pickle.BUILD[0]: set_state,
    }


class _Function:
    """An allowed function on the stack, where nothing about it can be changed."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)
