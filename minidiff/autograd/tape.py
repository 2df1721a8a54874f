"""The tape: a record of how values were computed, and its walk in reverse, which is the chain rule.

Nodes are numbered as they are made, so a node's number is above those of all its inputs: to walk the tape in
reverse is to take, again and again, the pending node with the highest number. By then everything that used
its value has been visited and its gradient is complete; it is released at once, with all that it held.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from minidiff import kernels

if TYPE_CHECKING:
    from minidiff.autograd.tensor import Tensor

Array: TypeAlias = np.ndarray
VJP: TypeAlias = Callable[[Array], Array]  # vector–Jacobian product: g = ∂L/∂out to ∂L/∂argument
Parent: TypeAlias = "Node | Tensor | None"

_numbers = itertools.count()


class _Recording(threading.local):
    """Whether operations are recorded, one flag per thread."""

    on = True


recording = _Recording()


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """`with no_grad():` nothing is recorded in this thread; results require no gradient."""
    before, recording.on = recording.on, False
    try:
        yield
    finally:
        recording.on = before


class Node:
    """One entry of the tape: the arguments of an operation and the vjp to each, the shape of its result.

    A parent is a `Node` for a value that was computed, the `Tensor` itself for a leaf, and None where no
    gradient is required. The values are not held here; what a vjp needs of them, it holds itself.
    """

    __slots__ = ("name", "number", "parents", "shape", "vjps")

    def __init__(
        self, name: str, shape: tuple[int, ...], parents: list[Parent], vjps: list[VJP | None]
    ) -> None:
        self.number = next(_numbers)
        self.name, self.shape = name, shape
        self.parents: list[Parent] | None = parents
        self.vjps: list[VJP | None] | None = vjps

    def release(self) -> Iterable[tuple[Parent, VJP | None]]:
        """Return the parents with their vjps and drop them from the node."""
        if self.parents is None or self.vjps is None:
            raise RuntimeError(
                f"the graph behind {self.name!r} was already consumed by a backward pass; "
                "compute the value again to differentiate it again"
            )
        edges = zip(self.parents, self.vjps, strict=True)
        self.parents = self.vjps = None
        return edges


def walk_back(root: Node, gradient: Array) -> None:
    """Add ∂(Σ gradient · root)/∂leaf to the `grad` of every leaf behind `root`.

    Raises ValueError if a vjp returns a gradient that has not the shape of its argument.
    """
    pending = {root.number: (root, gradient)}
    latest_first = [-root.number]
    while latest_first:
        node, g = pending.pop(-heapq.heappop(latest_first))
        for index, (parent, vjp) in enumerate(node.release()):
            if parent is None or vjp is None:
                continue
            contribution = vjp(g)
            if getattr(contribution, "shape", None) != parent.shape:
                contribution = _as_gradient(contribution, parent.shape, node.name, index)
            if not isinstance(parent, Node):
                parent.accumulate(contribution)
            elif parent.number in pending:
                pending[parent.number] = parent, plus(pending[parent.number][1], contribution)
            else:
                pending[parent.number] = parent, contribution
                heapq.heappush(latest_first, -parent.number)


def _as_gradient(value: Any, shape: tuple[int, ...], name: str, index: int) -> Array:
    """A number or numbers of this shape as an array; ValueError for anything else."""
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in "fiub":
        raise ValueError(
            f"rule {name!r}: the vjp of argument {index} must return a gradient of shape {shape}; "
            f"got {describe(value)}"
        )
    return array


def plus(a: Any, b: Any) -> Any:
    """a + b: for two arrays of one shape and dtype by the kernel, multi-threaded and into reused memory."""
    alike = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape
    return kernels.add(a, b) if alike and a.dtype == b.dtype and a.dtype.kind == "f" else a + b


def describe(value: object) -> str:
    """A value in an error message: what kind of thing it is, and the shape of an array."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return "a function" if callable(value) else f"{type(value).__name__} {value!r:.40}"
