"""The table of rules, second half: the operations of neural networks. Images are (B, H, W, C), channels last.

The computation is in `minidiff.kernels`; shapes are checked here, so that errors name the operation and the shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidiff import kernels
from minidiff.autograd.tape import Array, recording
from minidiff.autograd.tensor import Operand, Tensor, WithVJPs, jointly, rule

Padding = tuple[tuple[int, int], tuple[int, int]]


# ---- linear maps


@rule
def linear(x: Array, w: Array, b: Array) -> WithVJPs:
    """x w + b: x (..., I), w (I, O), b (O,) → (..., O)."""
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0] or b.shape != w.shape[1:]:
        raise ValueError(
            f"linear: expected x (..., I), w (I, O), b (O,); got {x.shape}, {w.shape}, {b.shape}"
        )
    rows = x.reshape(-1, w.shape[0])

    def flat(g: Array) -> Array:
        return g.reshape(-1, w.shape[1])

    return (
        kernels.linear(rows, w, b).reshape(*x.shape[:-1], w.shape[1]),
        lambda g: kernels.linear_backward_input(flat(g), w).reshape(x.shape),
        lambda g: kernels.linear_backward_weight(rows, flat(g)),
        lambda g: kernels.sum_rows(flat(g)),
    )


@rule
def _conv2d(
    x: Array, w: Array, b: Array, residual: Array | None, *, stride: int, padding: Padding
) -> WithVJPs:
    if (
        x.ndim != 4
        or w.ndim != 4
        or x.shape[3] != w.shape[2]
        or b.shape not in (w.shape[3:], (len(x), w.shape[3]))
    ):
        raise ValueError(
            f"conv2d: expected x (B, H, W, C), w (kh, kw, C, O), b (O,) or (B, O); "
            f"got {x.shape}, {w.shape}, {b.shape}"
        )
    kernel, size = w.shape[:2], x.shape[1:3]
    if stride < 1 or min(padding[0] + padding[1]) < 0:
        raise ValueError(f"conv2d: stride must be ≥ 1 and padding ≥ 0, got {stride} and {padding}")
    if any(n + sum(p) < k for n, p, k in zip(size, padding, kernel, strict=True)):
        raise ValueError(f"conv2d: a kernel {kernel} does not fit into {size} padded by {padding}")
    out = tuple((n + sum(p) - k) // stride + 1 for n, p, k in zip(size, padding, kernel, strict=True))
    if residual is not None and residual.shape != (len(x), *out, w.shape[3]):
        raise ValueError(
            f"conv2d: the result has shape {(len(x), *out, w.shape[3])}, the residual {residual.shape}"
        )
    return (
        kernels.conv2d(x, w, b, stride, padding, residual),
        lambda g: kernels.conv2d_backward_input(g, w, size, stride, padding),
        lambda g: kernels.conv2d_backward_weight(x, g, kernel, stride, padding),
        lambda g: kernels.sum_rows(g.reshape(-1, w.shape[3])) if b.ndim == 1 else g.sum(axis=(1, 2)),
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
    if table.ndim != 2:
        raise ValueError(f"embedding: expected a table (rows, C), got {table.shape}")
    rows, channels = table.shape
    index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise ValueError(f"embedding: the index must hold integers, got {index.dtype}")
    if index.size and not 0 <= index.min() <= index.max() < rows:
        raise ValueError(f"embedding: the index must lie in 0…{rows - 1}, got {index.min()}…{index.max()}")
    return (
        table[index],
        lambda g: kernels.scatter_rows(g.reshape(-1, channels), index.reshape(-1), rows),
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
    channels = x.shape[-1]
    if gamma.shape != (channels,) or beta.shape != (channels,) or groups < 1 or channels % groups:
        raise ValueError(
            f"group_norm: expected gamma and beta ({channels},) and groups that divide {channels}; "
            f"got {gamma.shape}, {beta.shape}, {groups} groups"
        )
    y, mean, rstd = kernels.group_norm(x, gamma, beta, groups, eps, silu)
    return y, *jointly(3, lambda g: kernels.group_norm_backward(g, x, gamma, beta, mean, rstd, silu))


@rule
def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> WithVJPs:
    """Normalise x (..., C) over its last axis to mean 0, variance 1; then · gamma (C,) + beta (C,).

    It is group norm with every row an image of one pixel and one group (Ba et al. 2016).
    """
    channels = x.shape[-1]
    if gamma.shape != (channels,) or beta.shape != (channels,):
        raise ValueError(
            f"layer_norm: expected gamma and beta ({channels},), got {gamma.shape}, {beta.shape}"
        )
    rows = x.reshape(-1, 1, channels)
    y, mean, rstd = kernels.group_norm(rows, gamma, beta, 1, eps, False)

    def gradients(g: Array) -> tuple[Array, ...]:
        g = g.reshape(rows.shape)
        dx, *others = kernels.group_norm_backward(g, rows, gamma, beta, mean, rstd, False)
        return dx.reshape(x.shape), *others

    return y.reshape(x.shape), *jointly(3, gradients)


@rule
def attention(q: Array, k: Array, v: Array, *, heads: int = 1) -> WithVJPs:
    """softmax(q kᵀ / √d) v for each head of d = C / heads channels (Vaswani et al. 2017).

    q (B, N, C), k and v (B, M, C) → (B, N, C).
    """
    fits = q.ndim == 3 and k.shape == v.shape and k.ndim == 3 and q.shape[::2] == k.shape[::2]
    if not fits or heads < 1 or q.shape[2] % heads or not k.shape[1]:
        raise ValueError(
            f"attention: expected q (B, N, C), k and v (B, M, C), C a multiple of {heads} heads, M ≥ 1; "
            f"got {q.shape}, {k.shape}, {v.shape}"
        )
    out, weights = kernels.attention(q, k, v, heads)
    return out, *jointly(3, lambda g: kernels.attention_backward(g, q, k, v, weights))


# ---- resolution


@rule
def upsample_nearest(x: Array, *, factor: int = 2) -> WithVJPs:
    """Repeat every pixel of x (B, H, W, C) as a square of factor × factor equal pixels."""
    if x.ndim != 4 or factor < 1:
        raise ValueError(
            f"upsample_nearest: expected x (B, H, W, C) and a factor ≥ 1, got {x.shape} and {factor}"
        )
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
    if x.ndim != 4 or size < 1:
        raise ValueError(f"average_pool: expected x (B, H, W, C) and a size ≥ 1, got {x.shape} and {size}")
    batch, rows, columns, channels = shape = x.shape
    if rows % size or columns % size:
        raise ValueError(
            f"average_pool: {rows}×{columns} pixels cannot be divided into {size}×{size} squares"
        )
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
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"cross_entropy: expected logits (B, K) with B ≥ 1, got {logits.shape}")
    batch, classes = logits.shape
    if labels.shape != (batch,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy: expected ({batch},) integer labels, got {labels.dtype} {labels.shape}"
        )
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
    if np.shape(a) != np.shape(b):
        raise ValueError(f"mse: expected two arrays of one shape, got {np.shape(a)} and {np.shape(b)}")
    if not np.size(a):
        raise ValueError(f"mse: expected at least one entry, got two arrays of shape {np.shape(a)}")
    difference = a - b
    factor = 2 / difference.size
    return (
        np.mean(difference * difference),
        lambda g: difference * (g * factor),
        lambda g: difference * (g * -factor),
    )
