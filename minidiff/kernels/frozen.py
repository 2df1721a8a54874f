"""Weights that will not change any more, and a cache of what the kernels prepare from them.

Most kernels first bring their weights into another order (packing, Winograd's transform). Sampling evaluates the same
network hundreds of times, so it pays to prepare its weights once; but nothing can be cached for an array that somebody
might write to. `freeze` makes an array that nobody can write to.
"""

import weakref

import numpy as np


class _Frozen:
    """The memory behind a frozen array, and what has been prepared from it so far, by key."""

    def __init__(self, memory: np.ndarray, precision: str) -> None:
        self.memory, self.precision = memory, precision
        self.prepared: dict[object, object] = {}


_by_view: dict[int, _Frozen] = {}
_by_memory: dict[int, _Frozen] = {}


def freeze(array: np.ndarray, precision: str = "float32") -> np.ndarray:
    """A read-only copy of an array, from which kernels prepare what they need once; the cache lives as long as it.

    precision: "float32" or "bf16", in which convolutions and linear layers multiply by it.
    """
    memory = np.array(array, order="C")
    view = memory.view()
    view.flags.writeable = False
    _by_view[id(view)] = _by_memory[id(memory)] = _Frozen(memory, precision)
    weakref.finalize(view, _forget, id(view), id(memory)).atexit = False
    return view


def _forget(view: int, memory: int) -> None:
    del _by_view[view], _by_memory[memory]


def memory_of(array: np.ndarray) -> np.ndarray | None:
    """The writeable array behind a frozen one, of the type that the kernels take; None for any other."""
    entry = _by_view.get(id(array))
    return entry and entry.memory


def is_frozen(memory: np.ndarray) -> bool:
    """Whether this is the memory behind a frozen array."""
    return id(memory) in _by_memory


def precision_of(memory: np.ndarray) -> str:
    """In which kernels multiply by an array: "float32", or that of a frozen one."""
    entry = _by_memory.get(id(memory))
    return "float32" if entry is None else entry.precision


def cached(memory: np.ndarray, key: object) -> object | None:
    """What was prepared from a frozen array under a key; None if nothing was."""
    entry = _by_memory.get(id(memory))
    return entry and entry.prepared.get(key)


def cache(memory: np.ndarray, key: object, prepared: object) -> None:
    """Store what was prepared for the next call, if the array is frozen."""
    entry = _by_memory.get(id(memory))
    if entry is not None:
        entry.prepared[key] = prepared
