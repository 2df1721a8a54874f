"""Weights that will not change any more, and what the kernels make of them once instead of at every call.

Most kernels bring their weights into another order first; sampling asks the same network hundreds of times. Of
an array that somebody might write to, nothing can be kept. `freeze` makes one to which nobody can.
"""

import weakref

import numpy as np


class _Frozen:
    """The memory behind a frozen array, and what was made of it so far."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.made: dict[object, object] = {}


_by_view: dict[int, _Frozen] = {}
_by_memory: dict[int, _Frozen] = {}


def freeze(array: np.ndarray) -> np.ndarray:
    """A read-only copy of an array, from which kernels prepare what they need once; all of it lives as long as it."""
    memory = np.array(array, order="C")
    view = memory.view()
    view.flags.writeable = False
    _by_view[id(view)] = _by_memory[id(memory)] = _Frozen(memory)
    weakref.finalize(view, _forget, id(view), id(memory)).atexit = False
    return view


def _forget(view: int, memory: int) -> None:
    del _by_view[view], _by_memory[memory]


def memory_of(array: np.ndarray) -> np.ndarray | None:
    """What lies behind a frozen array, as the kernels take it; None for any other."""
    entry = _by_view.get(id(array))
    return entry and entry.memory


def is_frozen(memory: np.ndarray) -> bool:
    """Whether this is what lies behind a frozen array."""
    return id(memory) in _by_memory


def kept(memory: np.ndarray, purpose: object) -> object | None:
    """What was made of a frozen array for a purpose, if it was."""
    entry = _by_memory.get(id(memory))
    return entry and entry.made.get(purpose)


def keep(memory: np.ndarray, purpose: object, made: object) -> None:
    """Keep it for next time, if the array is frozen."""
    entry = _by_memory.get(id(memory))
    if entry is not None:
        entry.made[purpose] = made
