"""One table of all rules: for each, random arguments, the call, and its value by a plain formula.

The formulas are loops over numbers with `math`, or the one NumPy function that the rule is defined by; none uses
the autograd engine. `test_rules.py` tests values and gradients of these cases, and that every rule has one. Those of
the rules of neural networks are in `neural_cases.py`.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable
from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from minidiff import autograd as ag


class Example(NamedTuple):
    """A rule with arguments: `call(*tensors)` and `plain(*arrays)` must agree on `arrays`."""

    call: Callable[..., ag.Tensor]
    plain: Callable[..., np.ndarray]
    arrays: tuple[np.ndarray, ...]


CASES: dict[str, st.SearchStrategy[Example]] = {}


def case(name: str) -> Callable:
    """Register the examples that a function draws as `name`: a rule, and in brackets which case of it."""

    def enter(function: Callable) -> Callable:
        CASES[name] = st.composite(function)()
        return function

    return enter


# ---- numbers and shapes

seeds = st.integers(0, 2**32 - 1)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


def pairs(count: int = 2) -> st.SearchStrategy:
    """Shapes that broadcast against each other, size-1 axes and 0-d among them."""
    drawn = hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3)
    return drawn.map(lambda shapes: shapes.input_shapes)


def normal(draw: Callable, *shape: int) -> np.ndarray:
    return np.random.default_rng(draw(seeds)).standard_normal(shape)


def away_from_zero(draw: Callable, *shape: int) -> np.ndarray:
    """Numbers in ±[0.2, 2]: a kink or a pole at 0 is far from every difference."""
    rng = np.random.default_rng(draw(seeds))
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2, shape)


def positive(draw: Callable, *shape: int) -> np.ndarray:
    return np.abs(away_from_zero(draw, *shape))


def all_different(draw: Callable, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays no two numbers of which are closer than 0.1."""
    sizes = [math.prod(shape) for shape in shapes]
    numbers = 0.1 * (np.random.default_rng(draw(seeds)).permutation(sum(sizes)) - sum(sizes) // 2)
    split = np.split(numbers, np.cumsum(sizes)[:-1])
    return [chunk.reshape(shape) for chunk, shape in zip(split, shapes, strict=True)]


# ---- elementwise functions


def by_entry(function: Callable) -> Callable:
    """A function of numbers, applied to every entry of arrays."""
    return np.vectorize(function, otypes=[np.float64])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _enter_unary(rule: Callable, formula: Callable, numbers: Callable) -> None:
    @case(rule.__name__)
    def examples(draw):
        return Example(rule, by_entry(formula), (numbers(draw, *draw(shapes)),))


_enter_unary(ag.negative, operator.neg, normal)
_enter_unary(ag.exp, math.exp, normal)
_enter_unary(ag.log, math.log, positive)
_enter_unary(ag.sqrt, math.sqrt, positive)
_enter_unary(ag.tanh, math.tanh, normal)
_enter_unary(ag.sigmoid, sigmoid, normal)
_enter_unary(ag.silu, lambda x: x * sigmoid(x), normal)
_enter_unary(ag.relu, lambda x: max(x, 0), away_from_zero)
_enter_unary(ag.gelu, _gelu, normal)


@case("power (whole exponents)")
def whole_powers(draw):
    n = draw(st.sampled_from([-2, -1, 1, 2, 3]))
    a = away_from_zero(draw, *draw(shapes))
    return Example(lambda a: ag.power(a, exponent=n), by_entry(lambda x: math.pow(x, n)), (a,))


@case("power (any exponent)")
def real_powers(draw):
    n = draw(st.floats(-2, 2))
    a = positive(draw, *draw(shapes))
    return Example(lambda a: ag.power(a, exponent=n), by_entry(lambda x: math.pow(x, n)), (a,))


# ---- elementwise functions of two arguments


def _enter_binary(rule: Callable, formula: Callable, numbers: Callable = normal) -> None:
    @case(rule.__name__)
    def examples(draw):
        a, b = draw(pairs())
        return Example(rule, by_entry(formula), (numbers(draw, *a), numbers(draw, *b)))


_enter_binary(ag.add, operator.add)
_enter_binary(ag.subtract, operator.sub)
_enter_binary(ag.multiply, operator.mul)
_enter_binary(ag.divide, operator.truediv, away_from_zero)


@case("maximum")
def maxima(draw):
    return Example(ag.maximum, by_entry(max), tuple(all_different(draw, *draw(pairs()))))


@case("clip")
def clips(draw):
    low, high = sorted(0.1 * draw(st.integers(-20, 20)) + 0.05 for _ in range(2))  # between any two numbers
    (a,) = all_different(draw, draw(shapes))
    return Example(lambda a: ag.clip(a, low=low, high=high), by_entry(lambda x: min(max(x, low), high)), (a,))


@case("where")
def choices(draw):
    a, b, c = draw(pairs(3))
    condition = np.random.default_rng(draw(seeds)).random(c) < 0.5
    choose = by_entry(lambda yes, x, y: x if yes else y)
    return Example(
        lambda a, b: ag.where(condition, a, b),
        lambda a, b: choose(condition, a, b),
        (normal(draw, *a), normal(draw, *b)),
    )


# ---- reductions


@st.composite
def axes_of(draw, ndim: int):
    """None, an integer, negative or not, or a tuple of such."""
    if ndim == 0:
        return draw(st.sampled_from([None, ()]))
    one = st.integers(-ndim, ndim - 1)
    several = st.lists(one, unique_by=lambda i: i % ndim, max_size=ndim).map(tuple)
    return draw(st.one_of(st.none(), one, several))


def reduced(function: Callable, a: np.ndarray, axis: object, keepdims: bool) -> np.ndarray:
    """function(list of numbers) for every entry of the result."""
    axes = range(a.ndim) if axis is None else [i % a.ndim for i in np.atleast_1d(axis).astype(int)]
    out = np.empty([1 if i in axes else n for i, n in enumerate(a.shape)])
    for index in np.ndindex(out.shape):
        entries = tuple(slice(None) if i in axes else k for i, k in enumerate(index))
        out[index] = function(np.ravel(a[entries]).tolist())
    return out if keepdims else out.reshape([n for i, n in enumerate(a.shape) if i not in axes])


def _enter_reduction(rule: Callable, formula: Callable, numbers: Callable = normal) -> None:
    @case(rule.__name__)
    def examples(draw):
        a = numbers(draw, *draw(shapes))
        axis, keepdims = draw(axes_of(a.ndim)), draw(st.booleans())
        return Example(
            lambda a: rule(a, axis=axis, keepdims=keepdims),
            lambda a: reduced(formula, a, axis, keepdims),
            (a,),
        )


_enter_reduction(ag.sum, math.fsum)
_enter_reduction(ag.mean, statistics.fmean)
_enter_reduction(ag.variance, statistics.pvariance)
_enter_reduction(ag.max, max, lambda draw, *shape: all_different(draw, shape)[0])


# ---- shape


@case("reshape")
def reshapes(draw):
    sides = draw(st.lists(st.sampled_from([1, 2, 3]), max_size=3))
    shape = draw(st.permutations(sides))
    if sides and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    a = normal(draw, *sides)

    def in_order(a):
        return np.array([a[index] for index in np.ndindex(a.shape)]).reshape(shape)

    return Example(lambda a: ag.reshape(a, shape=tuple(shape)), in_order, (a,))


@case("transpose")
def transposes(draw):
    a = normal(draw, *draw(shapes))
    order = np.random.default_rng(draw(seeds)).permutation(a.ndim).tolist()
    signed = tuple(i - a.ndim * draw(st.booleans()) for i in order)
    axes = draw(st.sampled_from([None, signed]))

    def permuted(a):
        order_of = range(a.ndim)[::-1] if axes is None else order
        out = np.empty([a.shape[i] for i in order_of])
        for index in np.ndindex(a.shape):
            out[tuple(index[i] for i in order_of)] = a[index]
        return out

    return Example(lambda a: ag.transpose(a, axes=axes), permuted, (a,))


def _enter_getitem(kind: str, indices: Callable) -> None:
    @case(f"getitem ({kind})")
    def examples(draw):
        a = normal(draw, *draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)))
        index = draw(indices(a.shape))
        return Example(lambda a: ag.getitem(a, index=index), lambda a: a[index], (a,))


_enter_getitem("slices", lambda shape: hnp.basic_indices(shape, allow_newaxis=True))
_enter_getitem("arrays with repeats", hnp.integer_array_indices)
_enter_getitem("mask", lambda shape: hnp.arrays(bool, shape))
_enter_getitem("list", lambda shape: st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=5))
_enter_getitem(
    "tuple of tuples, as NumPy takes it",
    lambda shape: st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=5).map(
        lambda rows: (tuple(rows), ...)
    ),
)


@case("concatenate")
def concatenations(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))

    def resized(n):
        return tuple(n if i == axis % len(shape) else m for i, m in enumerate(shape))

    def one_after_another(*arrays):
        rows = [row for array in arrays for row in np.moveaxis(array, axis, 0)]
        return np.moveaxis(np.array(rows), 0, axis)

    return Example(
        lambda *tensors: ag.concatenate(*tensors, axis=axis),
        one_after_another,
        tuple(normal(draw, *resized(n)) for n in lengths),
    )


@case("pad")
def pads(draw):
    a = normal(draw, *draw(hnp.array_shapes(max_dims=3, max_side=3)))
    widths = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in a.shape)

    def padded(a):
        out = np.zeros([before + n + after for n, (before, after) in zip(a.shape, widths, strict=True)])
        for index in np.ndindex(a.shape):
            out[tuple(i + before for i, (before, _) in zip(index, widths, strict=True))] = a[index]
        return out

    return Example(lambda a: ag.pad(a, widths=widths), padded, (a,))


# ---- products


@case("matmul")
def products(draw):
    shape = draw(
        hnp.mutually_broadcastable_shapes(signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, max_side=3)
    )
    a, b = (normal(draw, *s) for s in shape.input_shapes)

    def by_index(a, b):
        left, right = "...ij" if a.ndim > 1 else "j", "...jk" if b.ndim > 1 else "j"
        result = "..." + "i" * (a.ndim > 1) + "k" * (b.ndim > 1)
        return np.einsum(f"{left},{right}->{result}", a, b)

    return Example(ag.matmul, by_index, (a, b))
