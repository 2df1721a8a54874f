"""Pickles from strangers: plain data, and calls of listed functions alone.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program names. This one has the
instructions that data needs: numbers, text, lists, tuples and dictionaries. A global name must be a key of `allowed`,
where the caller has put a function that is safe with any arguments; nothing else is imported or called.
"""

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any

# What a damaged program makes of the machine, of Python's decoders, and of functions that are given anything at all.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
KEYS = (str, bytes, int)  # of dictionaries: a nested tuple could exhaust the stack that computes its hash


class Refused(ValueError):
    """The pickle is not plain data: it names a function that is not allowed, or has an unknown instruction."""


def loads(content: bytes, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    """The object that the pickle `content` describes, of protocol 2 to 5; text of Python 2 is bytes.

    allowed: functions by the global name, "module.name", that the pickle has for them. What such a function returns
    may have a method `__setstate__`, and must be safe with any state. Memory is bounded by the length of `content`,
    but for what these functions take.

    Raises ValueError: `Refused` for what is no plain data, else for damage.
    """
    try:
        return _Machine(content, allowed).run()
    except Refused:
        raise
    except DAMAGE as error:
        raise ValueError(f"expected a pickle of plain data, got a damaged one ({error})") from error


class _Global:
    """A name on the stack that stands for an allowed function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class _Machine:
    def __init__(self, content: bytes, allowed: Mapping[str, Callable[..., Any]]) -> None:
        self.stream, self.allowed = io.BytesIO(content), allowed
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks beneath the marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.read(1)) != pickle.STOP:
            if code not in INSTRUCTIONS:
                raise Refused(f"the pickle has the instruction {code!r}, which plain data does not need")
            INSTRUCTIONS[code](self)
        return self.stack.pop()

    def read(self, count: int) -> bytes:
        found = self.stream.read(count)
        if len(found) != count:
            raise ValueError("it ends early")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def name(self, module: object, name: object) -> _Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("it has a name that is no text")
        whole = f"{module}.{name}"
        if whole not in self.allowed:
            raise Refused(f"the pickle has the name {whole[:80]!r}, which is not allowed")
        return _Global(self.allowed[whole])

    # ---- instructions that are more than an expression

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_above_mark(self) -> None:
        items = self.above_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("it takes more from the stack than there is")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def set_items(self, items: list[Any]) -> None:
        keys = items[::2]
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, KEYS) for key in keys):
            raise TypeError("it sets items of no dictionary, or with keys that are no text")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("it appends to no list")
        self.stack[-1].extend(items)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise TypeError("it calls what is no function")
        self.stack.append(function.function(*arguments))

    def build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].__setstate__(state)


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value(machine))


def _bytes(form: str) -> Callable[[_Machine], bytes]:
    return lambda machine: machine.read(machine.number(form))


def _text(form: str) -> Callable[[_Machine], str]:
    return lambda machine: machine.read(machine.number(form)).decode("utf-8", "surrogatepass")


def _line(machine: _Machine) -> str:
    return machine.stream.readline().removesuffix(b"\n").decode("utf-8")


INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: lambda machine: machine.read(1),
    pickle.FRAME: lambda machine: machine.read(8),
    pickle.MARK: _Machine.mark,
    # numbers and text
    pickle.NONE: _push(lambda machine: None),
    pickle.NEWTRUE: _push(lambda machine: True),
    pickle.NEWFALSE: _push(lambda machine: False),
    pickle.BININT: _push(lambda machine: machine.number("<i")),
    pickle.BININT1: _push(lambda machine: machine.number("<B")),
    pickle.BININT2: _push(lambda machine: machine.number("<H")),
    pickle.LONG1: _push(
        lambda machine: int.from_bytes(machine.read(machine.number("<B")), "little", signed=True)
    ),
    pickle.BINFLOAT: _push(lambda machine: machine.number(">d")),
    pickle.SHORT_BINSTRING: _push(_bytes("<B")),
    pickle.BINSTRING: _push(_bytes("<i")),
    pickle.SHORT_BINBYTES: _push(_bytes("<B")),
    pickle.BINBYTES: _push(_bytes("<I")),
    pickle.BINBYTES8: _push(_bytes("<Q")),
    pickle.SHORT_BINUNICODE: _push(_text("<B")),
    pickle.BINUNICODE: _push(_text("<I")),
    # containers
    pickle.EMPTY_LIST: _push(lambda machine: []),
    pickle.EMPTY_DICT: _push(lambda machine: {}),
    pickle.EMPTY_TUPLE: _push(lambda machine: ()),
    pickle.TUPLE1: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3: lambda machine: machine.tuple_of(3),
    pickle.TUPLE: _Machine.tuple_above_mark,
    pickle.APPEND: lambda machine: machine.append([machine.stack.pop()]),
    pickle.APPENDS: lambda machine: machine.append(machine.above_mark()),
    pickle.SETITEM: lambda machine: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    pickle.SETITEMS: lambda machine: machine.set_items(machine.above_mark()),
    # what was met before
    pickle.BINPUT: lambda machine: machine.memo.update({machine.number("<B"): machine.stack[-1]}),
    pickle.LONG_BINPUT: lambda machine: machine.memo.update({machine.number("<I"): machine.stack[-1]}),
    pickle.MEMOIZE: lambda machine: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    pickle.BINGET: _push(lambda machine: machine.memo[machine.number("<B")]),
    pickle.LONG_BINGET: _push(lambda machine: machine.memo[machine.number("<I")]),
    # allowed functions
    pickle.GLOBAL: _push(lambda machine: machine.name(_line(machine), _line(machine))),
    pickle.STACK_GLOBAL: _push(lambda machine: machine.name(machine.stack.pop(-2), machine.stack.pop())),
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
}
