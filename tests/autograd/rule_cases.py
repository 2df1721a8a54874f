"""One table of all rules: for each, random arguments, the call, and its value by a plain formula.

The formulas are loops over numbers with `math`, or the one NumPy function that the rule is defined by; none uses
the autograd engine. `test_rules.py` tests values and gradients of these cases, and that every rule has one.
"""

from __future__ import annotations

import itertools
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


def _sigmoid(x: float) -> float:
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
_enter_unary(ag.sigmoid, _sigmoid, normal)
_enter_unary(ag.silu, lambda x: x * _sigmoid(x), normal)
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


@case("linear")
def linears(draw):
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))

    def by_index(x, w, b):
        return np.einsum("...i,io->...o", x, w) + b

    shapes = (*rows, inputs), (inputs, outputs), (outputs,)
    return Example(ag.linear, by_index, tuple(normal(draw, *s) for s in shapes))


def plain_conv2d(x, w, b, stride, padding):
    """Every output by a loop over the pixels of its receptive field."""
    (top, bottom), (left, right) = padding
    batch, rows, columns, _ = x.shape
    kh, kw, _, outputs = w.shape
    out = np.empty(
        (
            batch,
            (rows + top + bottom - kh) // stride + 1,
            (columns + left + right - kw) // stride + 1,
            outputs,
        )
    )
    for n, i, j, o in np.ndindex(out.shape):
        out[n, i, j, o] = b[o]
        for di, dj in np.ndindex(kh, kw):
            row, column = i * stride + di - top, j * stride + dj - left
            if 0 <= row < rows and 0 <= column < columns:
                out[n, i, j, o] += x[n, row, column] @ w[di, dj, :, o]
    return out


@case("conv2d")
def convolutions(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.integers(1, 3))
    width = st.integers(0, 2)
    padding = draw(st.tuples(st.tuples(width, width), st.tuples(width, width)))
    size = [draw(st.integers(max(1, k - sum(p)), 5)) for k, p in zip(kernel, padding, strict=True)]
    batch, channels, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    bias = draw(st.sampled_from([(outputs,), (batch, outputs)]))
    shapes = [(batch, *size, channels), (*kernel, channels, outputs), bias]
    if draw(st.booleans()):
        after = [(n + sum(p) - k) // stride + 1 for n, p, k in zip(size, padding, kernel, strict=True)]
        shapes.append((batch, *after, outputs))

    def plain(x, w, b, residual=0.0):
        each = b if b.ndim == 1 else b[:, None, None, :]
        return plain_conv2d(x, w, np.zeros(outputs), stride, padding) + each + residual

    return Example(
        lambda *arrays: ag.conv2d(*arrays, stride=stride, padding=padding),
        plain,
        tuple(normal(draw, *s) for s in shapes),
    )


@case("embedding")
def embeddings(draw):
    rows, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    index = draw(
        hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2), elements=st.integers(0, rows - 1))
    )

    def looked_up(table):
        return np.array([table[i] for i in np.ravel(index)]).reshape(*index.shape, channels)

    return Example(lambda table: ag.embedding(table, index=index), looked_up, (normal(draw, rows, channels),))


# ---- normalisation and attention


def _normalised(numbers: np.ndarray, eps: float) -> np.ndarray:
    numbers_list = np.ravel(numbers).tolist()
    mean, variance = statistics.fmean(numbers_list), statistics.pvariance(numbers_list)
    return (numbers - mean) / math.sqrt(variance + eps)


@case("group_norm")
def group_norms(draw):
    groups, width, silu = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    space = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    channels, eps = groups * width, draw(st.sampled_from([1e-2, 0.5]))

    def by_group(x, gamma, beta):
        z = np.empty(x.shape)
        for n, group in np.ndindex(len(x), groups):
            entries = (n, ..., slice(group * width, (group + 1) * width))
            z[entries] = _normalised(x[entries], eps)
        z = z * gamma + beta
        return by_entry(lambda a: a * _sigmoid(a))(z) if silu else z

    shapes = (draw(st.integers(1, 2)), *space, channels), (channels,), (channels,)
    return Example(
        lambda x, gamma, beta: ag.group_norm(x, gamma, beta, groups=groups, eps=eps, silu=silu),
        by_group,
        tuple(normal(draw, *s) for s in shapes),
    )


@case("layer_norm")
def layer_norms(draw):
    x = normal(draw, *draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)))
    eps = draw(st.sampled_from([1e-2, 0.5]))
    channels = x.shape[-1]

    def by_row(x, gamma, beta):
        rows = [_normalised(row, eps) for row in x.reshape(-1, channels)]
        return np.array(rows).reshape(x.shape) * gamma + beta

    return Example(
        lambda x, gamma, beta: ag.layer_norm(x, gamma, beta, eps=eps),
        by_row,
        (x, normal(draw, channels), normal(draw, channels)),
    )


def plain_softmax(numbers: np.ndarray) -> np.ndarray:
    weights = np.array([math.exp(x) for x in numbers])
    return weights / math.fsum(weights)


@case("attention")
def attentions(draw):
    heads, width = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    batch, n, m = (draw(st.integers(1, 3)) for _ in range(3))

    def by_query(q, k, v):
        out = np.empty(q.shape)
        for b, head, i in np.ndindex(batch, heads, n):
            own = slice(head * width, (head + 1) * width)
            scores = [q[b, i, own] @ k[b, j, own] / math.sqrt(width) for j in range(m)]
            out[b, i, own] = plain_softmax(scores) @ v[b, :, own]
        return out

    shapes = (batch, n, heads * width), (batch, m, heads * width), (batch, m, heads * width)
    return Example(
        lambda q, k, v: ag.attention(q, k, v, heads=heads), by_query, tuple(normal(draw, *s) for s in shapes)
    )


# ---- resolution and randomness


@case("upsample_nearest")
def upsamplings(draw):
    x = normal(draw, *draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=3)))
    factor = draw(st.integers(1, 3))

    def nearest(x):
        batch, rows, columns, channels = x.shape
        out = np.empty((batch, rows * factor, columns * factor, channels))
        for n, i, j, c in np.ndindex(out.shape):
            out[n, i, j, c] = x[n, i // factor, j // factor, c]
        return out

    return Example(lambda x: ag.upsample_nearest(x, factor=factor), nearest, (x,))


@case("average_pool")
def poolings(draw):
    size = draw(st.integers(1, 3))
    batch, rows, columns, channels = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=2))

    def by_square(x):
        out = np.empty((batch, rows, columns, channels))
        for n, i, j, c in np.ndindex(out.shape):
            square = x[n, i * size : (i + 1) * size, j * size : (j + 1) * size, c]
            out[n, i, j, c] = math.fsum(np.ravel(square)) / size**2
        return out

    x = normal(draw, batch, rows * size, columns * size, channels)
    return Example(lambda x: ag.average_pool(x, size=size), by_square, (x,))


@case("dropout")
def dropouts(draw):
    rate, seed = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])), draw(seeds)
    x = away_from_zero(draw, *draw(shapes))

    def dropped(x):
        return ag.dropout(x, rate=rate, rng=np.random.default_rng(seed))

    survivors = dropped(ag.Tensor(np.ones(x.shape))).data > 0
    return Example(dropped, lambda x: np.where(survivors, x / (1 - rate), 0), (x,))


# ---- probabilities and losses


def _enter_softmax(rule: Callable, formula: Callable) -> None:
    @case(rule.__name__)
    def examples(draw):
        x = normal(draw, *draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3)))
        axis = draw(st.integers(-x.ndim, x.ndim - 1))
        return Example(lambda x: rule(x, axis=axis), lambda x: np.apply_along_axis(formula, axis, x), (x,))


_enter_softmax(ag.softmax, plain_softmax)
_enter_softmax(ag.log_softmax, lambda numbers: [math.log(p) for p in plain_softmax(numbers)])


@case("cross_entropy")
def cross_entropies(draw):
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    labels = draw(hnp.arrays(np.int64, batch, elements=st.integers(0, classes - 1)))

    def by_row(logits):
        return statistics.fmean(-math.log(plain_softmax(x)[k]) for x, k in zip(logits, labels, strict=True))

    return Example(
        lambda logits: ag.cross_entropy(logits, labels=labels), by_row, (normal(draw, batch, classes),)
    )


@case("perceptron")
def perceptrons(draw):
    dim, width, depth, kinds = (draw(st.integers(1, n)) for n in (2, 3, 2, 2))
    rows = [draw(st.integers(1, 3)) for _ in range(kinds)]
    batch = draw(st.integers(1, 3))
    index = np.array([[draw(st.integers(0, n - 1)) for _ in range(batch)] for n in rows])
    sizes = [dim, *[width] * depth, dim]
    shapes = [(batch, dim), *itertools.pairwise(sizes), *((n,) for n in sizes[1:])]
    shapes += [(n, depth * width) for n in rows]

    def split(arrays):
        return arrays[0], arrays[1 : depth + 2], arrays[depth + 2 : 2 * depth + 3], arrays[2 * depth + 3 :]

    def by_row(*arrays):
        x, weights, biases, tables = split(arrays)
        out = []
        for i in range(batch):
            h = x[i]
            for layer in range(depth):
                z = h @ weights[layer] + biases[layer]
                own = slice(layer * width, (layer + 1) * width)
                z = z + sum(tables[k][index[k, i], own] for k in range(kinds))
                h = by_entry(lambda v: v * _sigmoid(v))(z)
            out.append(h @ weights[-1] + biases[-1])
        return np.array(out)

    return Example(
        lambda *tensors: ag.perceptron(*split(tensors), index=index),
        by_row,
        tuple(normal(draw, *s) for s in shapes),
    )


@case("mse")
def squared_errors(draw):
    shape = draw(shapes)

    def plain(a, b):
        return statistics.fmean((x - y) ** 2 for x, y in zip(np.ravel(a), np.ravel(b), strict=True))

    return Example(ag.mse, plain, (normal(draw, *shape), normal(draw, *shape)))
