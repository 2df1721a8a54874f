"""A tensor that remembers where it came from, and reverse-mode differentiation on that memory.

An operation on tensors is a *rule* (`rules.py`, `neural.py`): a function from arrays to its result and, for
each argument, the vector–Jacobian product that takes the gradient g = ∂L/∂out to ∂L/∂argument. While it runs,
a `Node` is written: which nodes the arguments came from, and those functions. That is the whole tape.

Nodes are numbered as they are made, so a node's number is above those of all its inputs: to walk the tape in
reverse is to take, again and again, the pending node with the highest number. When its turn comes, everything
that used its value has been visited and its gradient is complete; it is released at once, with all it held.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from minidiff import kernels

VJP = Callable[[np.ndarray], np.ndarray]

_numbers = itertools.count()


class _Recording(threading.local):
    """Whether operations are written down, one flag a thread."""

    on = True


_recording = _Recording()


def is_recording() -> bool:
    """Whether operations are written down in this thread."""
    return _recording.on


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """`with no_grad():` nothing is recorded in this thread; results need no gradient."""
    before, _recording.on = _recording.on, False
    try:
        yield
    finally:
        _recording.on = before


class Node:
    """One line of the tape: the arguments of an operation and the vjp to each.

    A parent is a `Node` for a value that was computed, the `Tensor` itself for a leaf, and None where no
    gradient is wanted. The values are not held here; what a vjp needs of them, it holds itself.
    """

    __slots__ = ("name", "number", "parents", "vjps")

    def __init__(self, name: str, parents: list[Node | Tensor | None], vjps: Iterable[VJP]) -> None:
        self.number = next(_numbers)
        self.name, self.parents, self.vjps = name, parents, vjps

    def release(self) -> Iterable[tuple[Node | Tensor | None, VJP]]:
        """Hand over the parents with their vjps and forget them."""
        if self.parents is None:
            raise RuntimeError(
                f"the graph behind {self.name!r} was already consumed by a backward pass; "
                "compute the value again to differentiate it again"
            )
        edges = zip(self.parents, self.vjps, strict=True)
        self.parents = self.vjps = None
        return edges


class Tensor:
    """An array, float32 or float64, that can be differentiated.

    data: an array, which keeps its dtype if that is float32 or float64, or numbers; all else becomes float32.
    requires_grad: whether `backward` shall leave ∂/∂this in `grad`. Of a computed tensor it says whether
    it depends on one that does.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "requires_grad")
    __array_ufunc__ = None  # so that array + Tensor is Tensor.__radd__, not an array of Tensors

    def __init__(self, data: object, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("expected an array or numbers, got a Tensor; take its .data or .detach()")
        kept = isinstance(data, (np.ndarray, np.generic)) and data.dtype.char in "fd"
        self.data = np.asarray(data, dtype=None if kept else np.float32)
        self.grad: np.ndarray | None = None
        self.node: Node | None = None
        self.requires_grad = requires_grad

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("a Tensor is not converted to an array behind your back; take its .data")

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def item(self) -> float:
        """The one number of a tensor of one element."""
        return self.data.item()

    def detach(self) -> Tensor:
        """The same array with no history."""
        return Tensor(self.data)

    def accumulate(self, gradient: np.ndarray) -> None:
        """Add to `grad`, in place where it is there, so that it may be a view into a longer vector."""
        if self.grad is None:
            self.grad = np.array(gradient, dtype=self.dtype)
        else:
            self.grad += gradient

    def backward(self, gradient: object = None) -> None:
        """Add ∂(Σ gradient · self)/∂leaf to the `grad` of every leaf that requires it.

        gradient: of the shape of self; may be left out for a tensor of one element, and is 1 then.
        The graph is consumed. Raises ValueError where nothing is to be differentiated, RuntimeError where
        the graph was consumed before.
        """
        if not self.requires_grad:
            raise ValueError("backward() on a tensor that depends on nothing with requires_grad=True")
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward() without a gradient needs one element, this has shape {self.shape}"
                )
            gradient = np.ones(self.shape)
        gradient = np.asarray(gradient, dtype=self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"backward(): expected a gradient of shape {self.shape}, got {gradient.shape}")
        if self.node is None:
            self.accumulate(gradient)
            return
        _walk_back(self.node, gradient)


def _walk_back(root: Node, gradient: np.ndarray) -> None:
    pending = {root.number: (root, gradient)}
    latest_first = [-root.number]
    while latest_first:
        node, g = pending.pop(-heapq.heappop(latest_first))
        for parent, vjp in node.release():
            if parent is None:
                continue
            contribution = vjp(g)
            if isinstance(parent, Tensor):
                parent.accumulate(contribution)
            elif parent.number in pending:
                pending[parent.number] = parent, plus(pending[parent.number][1], contribution)
            else:
                pending[parent.number] = parent, contribution
                heapq.heappush(latest_first, -parent.number)


def plus(a: object, b: object) -> object:
    """a + b: for two arrays of one shape and dtype by the kernel, on all threads and on memory used before."""
    alike = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape
    return kernels.add(a, b) if alike and a.dtype == b.dtype and a.dtype.kind == "f" else a + b


def rule(function: Callable) -> Callable[..., Tensor]:
    """Make an operation on tensors out of `function(*arrays, **options) → out, vjp, vjp, …`.

    There is one vjp for each positional argument. A vjp may not change g, which others see too. Positional
    arguments that are no tensors pass through and get no gradient.
    """

    @functools.wraps(function)
    def operation(*arguments: object, **options: object) -> Tensor:
        out, *vjps = function(*map(_plain, arguments), **{name: _number(o) for name, o in options.items()})
        result = Tensor(out)
        if _recording.on and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            result.requires_grad = True
            origins = [_origin(a) for a in arguments]
            wanted = [vjp if origin is not None else None for origin, vjp in zip(origins, vjps, strict=True)]
            result.node = Node(function.__name__, origins, wanted)
        return result

    return operation


def _plain(argument: object) -> object:
    """The array of a tensor; a number as `_number` has it."""
    return argument.data if isinstance(argument, Tensor) else _number(argument)


def _number(value: object) -> object:
    """NumPy's scalars become Python's, which do not promote float32 to float64."""
    return value.item() if isinstance(value, np.generic) else value


def _origin(argument: object) -> Node | Tensor | None:
    if not isinstance(argument, Tensor) or not argument.requires_grad:
        return None
    return argument.node or argument


def jointly(count: int, gradients: Callable[[np.ndarray], tuple[np.ndarray, ...]]) -> list[VJP]:
    """The vjps of `count` arguments whose gradients come out of one pass: made by the first that is asked.

    A node is consumed once, with one g, so what was made for the first serves the others.
    """
    made: list[np.ndarray] = []

    def part(i: int) -> VJP:
        def vjp(g: np.ndarray) -> np.ndarray:
            if not made:
                made.extend(gradients(g))
            return made[i]

        return vjp

    return [part(i) for i in range(count)]
