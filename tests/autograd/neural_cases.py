"""The cases of the rules of neural networks, entered into the table of `rule_cases.py`."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st
from rule_cases import Example, away_from_zero, by_entry, case, normal, seeds, shapes, sigmoid

from minidiff import autograd as ag

# ---- arguments


def ones(*shape: int) -> ag.Tensor:
    return ag.Tensor(np.ones(shape))


def conditioned(index, table=None):
    """The output of a network of two inputs and one hidden layer, conditioned on the rows `index` of one table."""
    weights, biases = [ones(2, 4), ones(4, 1)], [ones(4), ones(1)]
    return ag.perceptron(ones(2, 2), weights, biases, [ones(3, 4) if table is None else table], index=index)


# ---- linear maps


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
        return by_entry(lambda a: a * sigmoid(a))(z) if silu else z

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
                h = by_entry(lambda v: v * sigmoid(v))(z)
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
