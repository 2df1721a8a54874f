"""The checks of each kernel's arguments, made before it runs: types, then shapes as `shapes` describes them.

TypeError is raised for types and dtypes, ValueError for shapes and settings, IndexError for an index out of range. The
compiled kernels compute with raw addresses: with a wrong shape they would read out of bounds.
"""

import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import get_args, get_origin

import numpy as np

from . import shapes
from .reference import Array, Count

_SCALARS = {
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    bool: ((bool, np.bool_), "True or False"),
}
_KEPT = 1000  # shapes of a kernel's arguments whose check is remembered


def converter(name: str, kind: object) -> Callable:
    """A function that converts an argument annotated as `kind` to a plain Python type, or raises TypeError.

    NumPy's numbers become Python's (Numba would compile a kernel anew for each of NumPy's types), lists of numbers
    become tuples, and tuples of arrays lists.
    """

    def array(value):
        if not isinstance(value, kind):
            or_none = " or None" if kind != Array else ""
            raise TypeError(f"{name} must be a NumPy array{or_none}, not {type(value).__name__}")
        return value

    def arrays(value):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list, not {type(value).__name__}")
        for i, item in enumerate(value):
            if not isinstance(item, Array):
                raise TypeError(f"{name}[{i}] must be a NumPy array, not {type(item).__name__}")
        return list(value)

    def scalar(value):
        if type(value) is kind:
            return value
        family, description = _SCALARS[kind]
        if not isinstance(value, family):
            raise TypeError(f"{name} must be {description}, not {value!r}")
        return kind(value)

    def count(value):
        value = integer(value)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
        return value

    def items(value):
        try:
            if len(value) == len(converters):
                return tuple([converters[i](item) for i, item in enumerate(value)])
        except (TypeError, ValueError):  # no length, or another kind of item
            pass
        raise TypeError(f"{name} must be like {form}, not {value!r}")

    if kind is Count:
        integer = converter(name, int)
        return count
    if kind in _SCALARS:
        return scalar
    if get_origin(kind) is tuple:
        converters, form = [converter(name, item) for item in get_args(kind)], _form(kind)
        return items
    return arrays if get_origin(kind) is list else array


def _form(kind: type) -> str:
    """An example of nested tuples of integers."""
    return f"({', '.join(map(_form, get_args(kind)))})" if get_origin(kind) is tuple else "1"


def checker(specification: Callable) -> Callable[[list], bool]:
    """A function that checks a kernel's converted arguments, given in order, and returns whether they are float64."""
    parts, changes = specification.shapes, specification.changes
    parameters = list(inspect.signature(specification).parameters)
    arguments = shapes.arguments(parts)
    keyed = [i for i, name in enumerate(parameters) if name in shapes.names(parts)]
    keyed.sort(key=lambda i: parameters[i] not in changes)
    limits = {a.name: a.limit for a in arguments if a.limit}
    kept: dict[tuple, tuple] = {}

    def bind(args: list) -> tuple[bool, list[str], int, list[tuple]]:
        """What shapes and dtypes determine.

        Whether these are float64; the names of the arrays, those changed in place first, and how many these are;
        position, name and number of rows of each index.
        """
        sizes = shapes.bind(parts, {name: _shape(args[i]) for i, name in enumerate(parameters)})
        arrays = dict(item for i in keyed for item in _named(parameters[i], args[i]))
        for name in limits:
            if arrays[name].dtype.kind not in "iu" or not arrays[name].dtype.isnative:
                raise TypeError(f"{name} must hold integers, not {arrays[name].dtype}")
        (first, kind), *others = [(name, a.dtype) for name, a in arrays.items() if name not in limits]
        if kind not in (np.float32, np.float64):
            raise TypeError(f"{first} must be float32 or float64, not {kind}")
        for name, other in others:
            if other != kind:
                raise TypeError(f"{name} must be {kind} as {first} is, not {other}")
        changed = sum(name.partition("[")[0] in changes for name in arrays)
        indices = [(parameters.index(name), name, sizes[limit]) for name, limit in limits.items()]
        return kind == np.float64, list(arrays), changed, indices

    def check(args: list) -> bool:
        values = []  # with the arrays of a list after its length
        for i in keyed:
            value = args[i]
            values += (len(value), *value) if isinstance(value, list) else (value,)
        key = tuple([(v.shape, v.dtype) if isinstance(v, Array) else v for v in values])
        bound = kept.get(key)
        if bound is None:
            if len(kept) == _KEPT:
                kept.clear()
            bound = kept[key] = bind(args)
        is_float64, names, changed, indices = bound
        for i, name, rows in indices:
            _check_range(name, args[i], rows)
        if changed:
            _check_in_place(names, [v for v in values if isinstance(v, Array)], changed)
        return is_float64

    return check


def _shape(value: object) -> object:
    """The shape of an array, a list of those of a list; any other value as it is."""
    if isinstance(value, list):
        return [array.shape for array in value]
    return value.shape if isinstance(value, Array) else value


def _named(name: str, value: object) -> list[tuple[str, Array]]:
    """An argument's arrays with their names: one, those of a list, or none."""
    if isinstance(value, list):
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(name, value)] if isinstance(value, Array) else []


def _check_range(name: str, index: Array, rows: int | tuple[int, ...]) -> None:
    if isinstance(rows, tuple):
        for row, limit in zip(index, rows, strict=True):
            _check_range(name, row, limit)
    # Read as unsigned integers, negative ones become huge: one pass finds both errors.
    elif index.size and index.view(f"u{index.itemsize}").max() >= rows:
        raise IndexError(f"{name} must lie in 0…{rows - 1}, but spans {index.min()}…{index.max()}")


def _check_in_place(names: list[str], arrays: list[Array], changed: int) -> None:
    """Refuse memory that a kernel cannot write to, or that belongs to another argument too."""
    for i, array in enumerate(arrays[:changed]):
        if not array.flags.carray:
            raise ValueError(f"{names[i]}, changed in place, must be contiguous, aligned and not read-only")
        for j in range(i + 1, len(arrays)):
            if np.may_share_memory(array, arrays[j]):
                raise ValueError(f"{names[i]}, changed in place, must not share memory with {names[j]}")
