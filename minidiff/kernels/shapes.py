"""The notation in which the shapes of arguments are written, once, and the check that is made from it.

A letter stands for the same size in all arguments of a kernel:

    x (N, I), w (I, O), b (O,) -> y (N, O)     arrays and their axes; after the arrow, the results
    x (B, ..., C)                              any number of axes between B and C
    b (O,) or (B, O)                           whichever has the array's number of axes
    weights [(I, W), n × (W, W), (W, O)]       a list of arrays, of which n, perhaps none, have one shape
    tables [n × (rowsᵢ, C)]                    rowsᵢ may differ from one array of the list to the next
    index (N,) < rows                          integers in 0…rows−1; index (n, N) < rowsᵢ means this for each row
    size = (H, W)                              a tuple of integers
    heads | C, M ≥ 1                           heads divides C, M is at least 1

A letter may also be the name of an argument that is an integer.
"""

import inspect
import operator
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

_ARGUMENT = re.compile(r"(\w+) (?:= )?(\[[^]]*\]|\([^)]*\)(?: or \([^)]*\))*)(?: < (\w+))?")
_FORM = re.compile(r"(?:(\w+) × )?\(([^)]*)\)")
_CONDITION = re.compile(r"(\w+) (\||≥) (\w+)")

Axes = tuple[str, ...]
Shape = tuple[int, ...]
Parts = tuple[str | Callable, ...]
Sizes = dict[str, int | tuple[int, ...]]


class Argument(NamedTuple):
    """An argument's name, its shape as written, and for each pair of parentheses in it (letter before ×, axes)."""

    name: str
    written: str
    forms: list[tuple[str, Axes]]
    limit: str  # what stands after <


def shapes(*parts: str | Callable, changes: str = "") -> Callable:
    """Attach the shapes of its arguments to a kernel's specification, and the names of those changed in place.

    parts: texts in the notation above. A function among them is called with the letters and arguments that its
    parameters name; it returns the sizes of further letters, or raises ValueError.
    """

    def attach(specification: Callable) -> Callable:
        specification.shapes, specification.changes = parts, changes.split()
        text = ", ".join(part for part in parts if isinstance(part, str))
        specification.__doc__ = f"{text}\n\n{inspect.cleandoc(specification.__doc__ or '')}"
        return specification

    return attach


@cache
def parse(text: str) -> list[Argument]:
    """The arguments in a text, or the results in what follows its arrow."""
    return [
        Argument(name, written, [(count, _axes(inside)) for count, inside in _FORM.findall(written)], limit)
        for name, written, limit in _ARGUMENT.findall(text)
    ]


def _axes(inside: str) -> Axes:
    return tuple(letter.strip() for letter in inside.split(",") if letter.strip())


def arguments(parts: Parts) -> list[Argument]:
    """All arguments in the texts, in their order."""
    return [a for part in parts if isinstance(part, str) for a in parse(part.partition("->")[0])]


def names(parts: Parts) -> set[str]:
    """All letters and arguments that occur."""
    words = (inspect.signature(p).parameters if callable(p) else re.findall(r"\w+", p) for p in parts)
    return set().union(*words)


def bind(parts: Parts, given: dict[str, object]) -> Sizes:
    """The size of each letter; raises ValueError, of one line, if the shapes do not fit together.

    given: by name the shape of each array (None for one left out), a list of them, or the value of a setting.
    """
    sizes = {name: value for name, value in given.items() if isinstance(value, int)}
    bound: list[Argument] = []

    def where(*letters: str) -> str:
        related = [a for a in bound if any(set(letters) & {count, *axes} for count, axes in a.forms)]
        shapes = ", ".join(f"{a.name} {a.written} = {given[a.name]}" for a in related)
        return f", where {shapes}" if related else ""

    for part in parts:
        if callable(part):
            values = given | sizes
            sizes.update(part(*(values[name] for name in inspect.signature(part).parameters)))
            continue
        for argument in arguments((part,)):
            if given[argument.name] is None:
                continue
            for name, shape, choices in _arrays(argument, given[argument.name], sizes, where):
                known = dict(sizes)
                if not any(_fits(axes, shape, sizes) for axes in choices):
                    expected = " or ".join(_written(axes, known) for axes in choices)
                    raise ValueError(f"{name} must be {expected}, got {shape}{where(*sum(choices, ()))}")
            bound.append(argument)
        for left, sign, right in _CONDITION.findall(part):
            if sizes[left] < 1 or (sign == "|" and sizes[right] % sizes[left]):
                expected = f"divide {right} = {sizes[right]}" if sign == "|" else "be at least 1"
                raise ValueError(f"{left} must {expected}, got {sizes[left]}{where(left, right)}")
    return sizes


@lru_cache(typed=True)
def match(text: str, *given: Shape, **settings: int) -> Sizes:
    """`bind` for `match("name: a (N, C), b (C,)", a.shape, b.shape)`; an error begins with that name."""
    name, _, text = text.partition(": ")
    try:
        values = {key: operator.index(value) for key, value in settings.items()}
        return bind((text,), values | dict(zip((a.name for a in parse(text)), given, strict=True)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _arrays(
    argument: Argument, shape: Shape | list[Shape], sizes: Sizes, where: Callable[[str], str]
) -> list[tuple[str, Shape, list[Axes]]]:
    """The name and the shape of an array, or of each in a list, with the axes that it may have."""
    name, written, forms, _ = argument
    if not isinstance(shape, list):
        return [(name, shape, [axes for _, axes in forms])]
    letter = next((count for count, _ in forms if count), "0")
    number = len(shape) - sum(not count for count, _ in forms)
    if number < 0 or sizes.setdefault(letter, 0 if letter == "0" else number) != number:
        raise ValueError(f"{name} must be {written}, got {len(shape)} arrays{where(letter)}")
    expected = [axes for count, axes in forms for _ in range(number if count else 1)]
    return [(f"{name}[{i}]", shape[i], [axes]) for i, axes in enumerate(expected)]


def _fits(axes: Axes, shape: Shape, sizes: Sizes) -> bool:
    """Whether a shape has these axes; the sizes of letters that are new are entered."""
    if "..." in axes and len(shape) >= len(axes) - 1:
        before = axes.index("...")
        after = len(shape) - (len(axes) - 1 - before)
        shape = (*shape[:before], shape[before:after], *shape[after:])
    if len(shape) != len(axes):
        return False
    for letter, size in zip(axes, shape, strict=True):
        if letter.endswith("ᵢ"):
            sizes[letter] = (*sizes.get(letter, ()), size)
        elif sizes.setdefault(letter, size) != size:
            return False
    return True


def _written(axes: Axes, sizes: Sizes) -> str:
    """Axes in letters and, as far as these are known, in numbers."""
    numbers: list[str] = []
    for letter in axes:
        size = letter if letter.endswith("ᵢ") else sizes.get(letter, letter)
        numbers += map(str, size) if isinstance(size, tuple) else [str(size)]
    letters, numbers = (f"({', '.join(a)}{',' * (len(a) == 1 and a[0] != '...')})" for a in (axes, numbers))
    return letters if letters == numbers else f"{letters} = {numbers}"
