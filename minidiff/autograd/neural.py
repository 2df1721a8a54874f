"""The table of rules, second half: the operations of neural networks. Images are (B, H, W, C), channels last.

The computation is in `minidiff.kernels`, which also checks the shapes; rules without a kernel of their name have them
checked by `kernels.match`. So an error names the operation, the argument, and the shapes expected and given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidiff import kernels
from minidiff.autograd.tape import Array, recording
from minidiff.autograd.tensor import Operand, Tensor, WithVJPs, jointly, rule
from minidiff.kernels.reference import Padding


def _rows(x: Array) -> Array:
    """(..., C) → (N, C)."""
    return x.reshape(math.prod(x.shape[:-1]), *x.shape[-1:])


# ---- linear maps


@rule
def linear(x: Array, w: Array, b: Array) -> WithVJPs:
    """x w + b: x (..., I), w (I, O), b (O,) → (..., O)."""
    rows = _rows(x)
    return (
        kernels.linear(rows, w, b).reshape(*x.shape[:-1], *b.shape),
        lambda g: kernels.linear_backward_input(_rows(g), w).reshape(x.shape),
        lambda g: kernels.linear_backward_weight(rows, _rows(g)),
        lambda g: kernels.sum_rows(_rows(g)),
    )


@rule
def _conv2d(
    x: Array, w: Array, b: Array, residual: Array | None, *, stride: int, padding: Padding
) -> WithVJPs:
    return (
        kernels.conv2d(x, w, b, stride, padding, residual),
        lambda g: kernels.conv2d_backward_input(g, w, x.shape[1:3], stride, padding),
        lambda g: kernels.conv2d_backward_weight(x, g, w.shape[:2], stride, padding),
        lambda g: kernels.sum_rows(_rows(g)) if b.ndim == 1 else g.sum(axis=(1, 2)),
        lambda g: g,
    )


def conv2d(
    x: Operand,
    w: Operand,
    b: Operand,
    residual: Operand | None = None,
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Tensor:
    """Cross-correlate x (B, H, W, C) with w (kh, kw, C, O), add b → (B, H', W', O).

    b: (O,), or (B, O) for one bias per image; residual: of the result's shape, added to it in the same pass.
    padding: zeros ((top, bottom), (left, right)); H' = (H + top + bottom − kh) // stride + 1.
    """
    return _conv2d(x, w, b, residual, stride=stride, padding=padding)


@rule
def embedding(table: Array, *, index: np.ndarray) -> WithVJPs:
    """Row index[i] of table (rows, C) for every i: index (...), integers in 0…rows−1 → (..., C)."""
    kernels.match("embedding: table (rows, C)", table.shape)
    rows = len(table)
    index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise ValueError(f"embedding: the index must hold integers, got {index.dtype}")
    if index.size and not 0 <= index.min() <= index.max() < rows:
        raise ValueError(f"embedding: the index must lie in 0…{rows - 1}, got {index.min()}…{index.max()}")
    return (
        table[index],
        lambda g: kernels.scatter_rows(_rows(g), index.reshape(-1), rows),
    )


class _SparseRows:
    """The row-sparse gradient of a table of which few rows were read: row i of g, for row index[i] of the table.

    `grad += this` costs in proportion to those rows, not to the table: NumPy leaves the addition to it.
    """

    def __init__(self, g: Array, index: np.ndarray, rows: int) -> None:
        self.g, self.index, self.rows = g, index, rows
        self.shape = (rows, *g.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        dense: Array = kernels.scatter_rows(self.g, self.index, self.rows)
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (None,)
    ) -> Any:
        if ufunc is not np.add or out[0] is not inputs[0]:
            return NotImplemented
        kernels.add_rows(out[0], self.g, self.index)
        return out[0]


def perceptron(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], tables: list[Tensor], *, index: np.ndarray
) -> Tensor:
    """Hidden layers h ← SiLU(h w + b + Σ table[index]), then a linear one: x (B, I) → (B, O).

    weights, biases: (I, W) and (W,), (W, W) and (W,), …, (W, O) and (O,). tables: one (rows, hidden layers · W)
    for each condition, such as t or the label; a row holds the embeddings for all hidden layers, side by side.
    index: (conditions, B), which row. It is a single operation, so that a block of rows passes through all
    layers before the next.
    """
    index = np.asarray(index)
    leaves = [table.node is None for table in tables]  # a leaf accumulates a row-sparse gradient as it is
    return _perceptron(
        x, *weights, *biases, *tables, layers=len(weights), index=index, leaves=leaves, keep=recording.on
    )


@rule
def _perceptron(
    x: Array, *arguments: Array, layers: int, index: np.ndarray, leaves: list[bool], keep: bool
) -> WithVJPs:
    weights, biases, tables = arguments[:layers], arguments[layers : 2 * layers], arguments[2 * layers :]
    y, z = kernels.perceptron(x, weights, biases, tables, index, keep)
    sizes = [len(table) for table in tables]

    def gradients(g: Array) -> tuple[Any, ...]:
        dx, dw, db = kernels.perceptron_backward(g, x, weights, z)
        dz = z.reshape(len(z), -1)  # z holds its own gradient by now
        dtables = (_SparseRows(dz, rows, size) for rows, size in zip(index, sizes, strict=True))
        return dx, *dw, *db, *(d if leaf else np.asarray(d) for d, leaf in zip(dtables, leaves, strict=True))

    return y, *jointly(1 + len(arguments), gradients)


# ---- normalisation and attention


@rule
def group_norm(
    x: Array, gamma: Array, beta: Array, *, groups: int, eps: float, silu: bool = False
) -> WithVJPs:
    """Normalise each image of x (B, ..., C) to mean 0, variance 1 over each of `groups` groups of channels.

    Then · gamma (C,) + beta (C,) and, with silu=True, SiLU of that, in the same pass (Wu & He 2018).
    """
    y, mean, rstd = kernels.group_norm(x, gamma, beta, groups, eps, silu)
    return y, *jointly(3, lambda g: kernels.group_norm_backward(g, x, gamma, beta, mean, rstd, silu))


@rule
def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> WithVJPs:
    """Normalise x (..., C) over its last axis to mean 0, variance 1; then · gamma (C,) + beta (C,).

    It is group norm with every row an image of one pixel and one group (Ba et al. 2016).
    """
    kernels.match("layer_norm: x (..., C), gamma (C,), beta (C,)", x.shape, gamma.shape, beta.shape)
    rows = _rows(x)
    y, mean, rstd = kernels.group_norm(rows, gamma, beta, 1, eps, False)

    def gradients(g: Array) -> tuple[Array, ...]:
        dx, *others = kernels.group_norm_backward(_rows(g), rows, gamma, beta, mean, rstd, False)
        return dx.reshape(x.shape), *others

    return y.reshape(x.shape), *jointly(3, gradients)


@rule
def attention(q: Array, k: Array, v: Array, *, heads: int = 1) -> WithVJPs:
    """softmax(q kᵀ / √d) v for each head of d = C / heads channels (Vaswani et al. 2017).

    q (B, N, C), k and v (B, M, C) → (B, N, C).
    """
    out, weights = kernels.attention(q, k, v, heads)
    return out, *jointly(3, lambda g: kernels.attention_backward(g, q, k, v, weights))


# ---- resolution


@rule
def upsample_nearest(x: Array, *, factor: int = 2) -> WithVJPs:
    """Repeat every pixel of x (B, H, W, C) as a square of factor × factor equal pixels."""
    kernels.match("upsample_nearest: x (B, H, W, C), factor ≥ 1", x.shape, factor=factor)
    batch, rows, columns, channels = shape = x.shape
    split = batch, rows, factor, columns, factor, channels
    joined = batch, rows * factor, columns * factor, channels
    copies = kernels.empty(split, x.dtype)
    copies[...] = x[:, :, None, :, None, :]

    def vjp(g: Array) -> Array:  # rows of pixels first, where the summands are contiguous in memory
        lines = kernels.empty((batch, rows, columns * factor * channels), g.dtype)
        g.reshape(batch, rows, factor, columns * factor * channels).sum(axis=2, out=lines)
        squares = kernels.empty(shape, g.dtype)
        return lines.reshape(batch, rows, columns, factor, channels).sum(axis=3, out=squares)

    return copies.reshape(joined), vjp


@rule
def average_pool(x: Array, *, size: int = 2) -> WithVJPs:
    """The mean of every square of size × size pixels of x (B, H, W, C); H and W must be multiples of size."""
    kernels.match("average_pool: x (B, H, W, C), size | H, size | W", x.shape, size=size)
    batch, rows, columns, channels = shape = x.shape
    split = batch, rows // size, size, columns // size, size, channels

    def vjp(g: Array) -> Array:
        spread = (g / size**2)[:, :, None, :, None, :]
        return np.broadcast_to(spread, split).reshape(shape)

    return x.reshape(split).mean(axis=(2, 4)), vjp


# ---- randomness


@rule
def dropout(x: Array, *, rate: float, rng: np.random.Generator) -> WithVJPs:
    """Each number is 0 with probability `rate` in [0, 1), else · 1/(1 − rate), so that the mean stays."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: the rate must lie in [0, 1), got {rate}")
    kept = (rng.random(x.shape, dtype=np.float32) >= rate).astype(x.dtype) / x.dtype.type(1 - rate)
    return x * kept, lambda g: g * kept


# ---- probabilities and losses


@rule
def softmax(x: Array, *, axis: int = -1) -> WithVJPs:
    """exp(x) over its sum along `axis`."""
    p = np.exp(x - x.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)
    return p, lambda g: p * (g - (g * p).sum(axis=axis, keepdims=True))


@rule
def log_softmax(x: Array, *, axis: int = -1) -> WithVJPs:
    """The logarithm of softmax, with no overflow."""
    shifted = x - x.max(axis=axis, keepdims=True)
    out = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return out, lambda g: g - np.exp(out) * g.sum(axis=axis, keepdims=True)


@rule
def cross_entropy(logits: Array, *, labels: np.ndarray) -> WithVJPs:
    """The mean of −log softmax(logits)[label]: logits (B, K), labels (B,) integers in 0…K−1."""
    labels = np.asarray(labels)
    kernels.match("cross_entropy: logits (B, K), labels (B,), B ≥ 1", logits.shape, labels.shape)
    batch, classes = logits.shape
    if labels.dtype.kind not in "iu":
        raise ValueError(f"cross_entropy: labels must be integers, got {labels.dtype}")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"cross_entropy: labels must lie in 0…{classes - 1}, got {labels.min()}…{labels.max()}"
        )
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = np.arange(batch), labels

    def vjp(g: Array) -> Array:
        difference: Array = np.exp(log_p)
        difference[target] -= 1
        difference *= g / batch
        return difference

    return -log_p[target].sum() / batch, vjp


@rule
def mse(a: Array, b: Array) -> WithVJPs:
    """The mean of (a − b)² over all entries; the shapes must be equal, nothing is broadcast."""
    kernels.match("mse: a (...), b (...)", np.shape(a), np.shape(b))
    if not np.size(a):
        raise ValueError(f"mse: expected at least one entry, got two arrays of shape {np.shape(a)}")
    difference = a - b
    factor = 2 / difference.size
    return (
        np.mean(difference * difference),
        lambda g: difference * (g * factor),
        lambda g: difference * (g * -factor),
    )
