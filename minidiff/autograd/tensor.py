"""Tensor, an array that can be differentiated, and `rule`, which makes the operations on tensors.

A rule (`rules.py`, `neural.py`) is a function from arrays to its result and, for each argument, the
vector–Jacobian product (vjp) that takes the gradient g = ∂L/∂out to ∂L/∂argument. Applying it to tensors
appends a node to the tape (`tape.py`): the nodes that the arguments came from, and the vjps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from minidiff.autograd.tape import VJP, Array, Node, Parent, describe, recording, walk_back

WithVJPs: TypeAlias = tuple[Any, ...]  # what a rule returns: the result, then one VJP for each argument
Operand: TypeAlias = "Tensor | np.ndarray | np.generic | float"
Axis: TypeAlias = int | tuple[int, ...] | None


class Tensor:
    """An array, float32 or float64, that can be differentiated.

    data: an array, which keeps its dtype if that is float32 or float64, or numbers; all else becomes float32.
    requires_grad: whether `backward` adds ∂/∂this to `grad`. For a computed tensor: whether it depends on
    one that requires it.

    The operators and methods are those of NumPy; each applies the rule of its name (`rules.py`).
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "requires_grad")
    __array_ufunc__ = None  # so that array + Tensor is Tensor.__radd__, not an array of Tensors

    def __init__(self, data: ArrayLike, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("expected an array or numbers, got a Tensor; take its .data or .detach()")
        kept = isinstance(data, (np.ndarray, np.generic)) and data.dtype.char in "fd"
        self.data: np.ndarray = np.asarray(data, dtype=None if kept else np.float32)
        self.grad: np.ndarray | None = None
        self.node: Node | None = None
        self.requires_grad = requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        """That of the array, float32 or float64."""
        return self.data.dtype

    if not TYPE_CHECKING:  # to a type checker, what has this method is an array

        def __array__(self, dtype=None, copy=None):
            raise TypeError("a Tensor is not converted to an array implicitly; take its .data")

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def item(self) -> float:
        """The one number of a tensor of one element."""
        return float(self.data.item())

    def detach(self) -> Tensor:
        """The same array with no history."""
        return Tensor(self.data)

    # ---- operators

    def __add__(self, other: Operand) -> Tensor:
        return rules.add(self, other)

    def __sub__(self, other: Operand) -> Tensor:
        return rules.subtract(self, other)

    def __mul__(self, other: Operand) -> Tensor:
        return rules.multiply(self, other)

    def __truediv__(self, other: Operand) -> Tensor:
        return rules.divide(self, other)

    def __matmul__(self, other: Operand) -> Tensor:
        return rules.matmul(self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return rules.add(self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return rules.subtract(other, self)

    def __rmul__(self, other: Operand) -> Tensor:
        return rules.multiply(self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return rules.divide(other, self)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return rules.matmul(other, self)

    def __neg__(self) -> Tensor:
        return rules.negative(self)

    def __pow__(self, exponent: float) -> Tensor:
        return rules.power(self, exponent=exponent)

    def __getitem__(self, index: Any) -> Tensor:
        return rules.getitem(self, index=index)

    # ---- methods

    def exp(self) -> Tensor:
        """eᵃ."""
        return rules.exp(self)

    def log(self) -> Tensor:
        """The natural logarithm."""
        return rules.log(self)

    def sqrt(self) -> Tensor:
        """The square root."""
        return rules.sqrt(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return rules.tanh(self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis`; over everything if it is None."""
        return rules.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over `axis`; over everything if it is None."""
        return rules.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The maximum over `axis`; over everything if it is None."""
        return rules.max(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: int | tuple[int, ...]) -> Tensor:
        """reshape(2, 3) or reshape((2, 3)), as in NumPy."""
        return rules.reshape(self, shape=_as_tuple(shape))

    def transpose(self, *axes: int | tuple[int, ...]) -> Tensor:
        """transpose(1, 0) or transpose((1, 0)), as in NumPy; without axes their order is reversed."""
        return rules.transpose(self, axes=_as_tuple(axes) or None)

    @property
    def T(self) -> Tensor:
        """The same with its axes in reverse order."""
        return rules.transpose(self)

    # ---- gradients

    def accumulate(self, gradient: np.ndarray) -> None:
        """Add to `grad`, in place if it is set, so that it may be a view into a longer vector."""
        if self.grad is None:
            self.grad = np.array(gradient, dtype=self.dtype)
        else:
            self.grad += gradient

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Add ∂(Σ gradient · self)/∂leaf to the `grad` of every leaf that requires it.

        gradient: of the shape of self; for a tensor of one element it may be left out, and is 1 then.
        The graph is consumed. Raises ValueError if self depends on no such leaf or a vjp returns a gradient
        of the wrong shape, RuntimeError if the graph was already consumed.
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
        walk_back(self.node, gradient)


def rule(function: Callable[..., WithVJPs]) -> Callable[..., Tensor]:
    """Make an operation on tensors out of `function(*arrays, **options) → out, vjp, vjp, …`.

    There is one vjp for each positional argument, which returns a gradient of that argument's shape. A vjp
    may not change g, which others use too. Positional arguments that are not tensors pass through and get no
    gradient. The operation raises TypeError if the function returns anything else than out, vjp, vjp, ….
    """

    @functools.wraps(function)
    def operation(*arguments: Any, **options: Any) -> Tensor:
        returned = function(*map(_unwrap, arguments), **{name: _number(o) for name, o in options.items()})
        if not isinstance(returned, tuple) or len(returned) != 1 + len(arguments):
            raise _malformed_rule(function, len(arguments), returned)
        out, *vjps = returned
        if callable(out) or not all(map(callable, vjps)):
            raise _malformed_rule(function, len(arguments), returned)
        result = Tensor(out)
        if recording.on and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            result.requires_grad = True
            parents = [_parent(a) for a in arguments]
            required = [
                vjp if parent is not None else None for parent, vjp in zip(parents, vjps, strict=True)
            ]
            result.node = Node(function.__name__, result.data.shape, parents, required)
        return result

    return operation


def jointly(count: int, gradients: Callable[[Array], tuple[Array, ...]]) -> list[VJP]:
    """The vjps of `count` arguments whose gradients come out of one pass, run by the first vjp that is called.

    gradients(g) returns a tuple of `count` arrays; a vjp raises TypeError if it does not. A node is consumed
    once, with one g, so that one pass serves all the vjps.
    """
    computed: list[Array] = []

    def nth(i: int) -> VJP:
        def vjp(g: Array) -> Array:
            if not computed:
                returned = gradients(g)
                if not isinstance(returned, tuple) or len(returned) != count:
                    raise _malformed(gradients.__qualname__, f"a tuple of {count} gradients", returned)
                computed.extend(returned)
            return computed[i]

        return vjp

    return [nth(i) for i in range(count)]


def _malformed_rule(function: Callable[..., Any], count: int, returned: object) -> TypeError:
    vjps = f"one vjp for each of its {count} positional arguments"
    return _malformed(
        f"rule {function.__name__!r}", f"a tuple of {1 + count}: the result, then {vjps}", returned
    )


def _malformed(name: str, expected: str, returned: object) -> TypeError:
    got = describe(returned)
    if isinstance(returned, tuple):
        got = f"a tuple of {len(returned)}: ({', '.join(map(describe, returned))})"
    return TypeError(f"{name} must return {expected}; got {got}")


def _unwrap(argument: object) -> object:
    """The array of a tensor; a number as `_number` returns it."""
    return argument.data if isinstance(argument, Tensor) else _number(argument)


def _number(value: object) -> object:
    """NumPy's scalars become Python's, which do not promote float32 to float64."""
    return value.item() if isinstance(value, np.generic) else value


def _parent(argument: object) -> Parent:
    if not isinstance(argument, Tensor) or not argument.requires_grad:
        return None
    return argument.node or argument


def _as_tuple(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """As in NumPy, a method's numbers may come one by one or as one tuple."""
    return tuple(numbers[0]) if len(numbers) == 1 and np.iterable(numbers[0]) else numbers


# At the end, because rules.py needs the classes above to make its rules, while the methods above look their rule up
# only when they are called: so it does not matter which of the two modules is imported first.
from minidiff.autograd import rules  # noqa: E402
