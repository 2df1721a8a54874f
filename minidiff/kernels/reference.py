"""What every kernel computes, in short plain NumPy: the specification of `minidiff.kernels`.

Images are (B, H, W, C), channels last. These functions take float32 or float64 and return the same dtype; the tests
compare the compiled kernels with them in float64. `shapes` describes how the shapes above each are written; they are
what `minidiff.kernels` checks before it computes.
"""

import math
from typing import Annotated

import numpy as np

from .shapes import shapes

Array = np.ndarray
Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)), zeros
Size = tuple[int, int]
Count = Annotated[int, "at least 1"]


@shapes("x (N, I), w (I, O), b (O,) -> y (N, O)")
def linear(x: Array, w: Array, b: Array) -> Array:
    """x w + b."""
    return x @ w + b


@shapes("g (N, O), w (I, O) -> dx (N, I)")
def linear_backward_input(g: Array, w: Array) -> Array:
    """Gradient of `linear` in x, from that of its result, g."""
    return g @ w.T


@shapes("x (N, I), g (N, O) -> dw (I, O)")
def linear_backward_weight(x: Array, g: Array) -> Array:
    """Gradient of `linear` in w."""
    return x.T @ g


@shapes("g (N, C) -> db (C,)")
def sum_rows(g: Array) -> Array:
    """Gradient of a bias that was added to every row."""
    return g.sum(axis=0)


def _patches(x: Array, kernel: Size, stride: int, padding: Padding) -> Array:
    """The receptive field of every output pixel (im2col), as a view: (B, H', W', kh, kw, C)."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return patches[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def _output_size(H: int, W: int, kh: int, kw: int, stride: int, padding: Padding) -> dict[str, int]:
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    rows, columns = (H + top + bottom - kh) // stride + 1, (W + left + right - kw) // stride + 1
    if rows < 1 or columns < 1:
        raise ValueError(f"a kernel of {kh}×{kw} does not fit into {H}×{W} pixels padded by {padding}")
    return {"H'": rows, "W'": columns}


@shapes(
    "x (B, H, W, C), w (kh, kw, C, O), b (O,) or (B, O)",
    _output_size,
    "residual (B, H', W', O) -> y (B, H', W', O)",
)
def conv2d(
    x: Array, w: Array, b: Array, stride: Count, padding: Padding, residual: Array | None = None
) -> Array:
    """Cross-correlation, as in every framework, with one bias or one for each image, plus the residual if given."""
    out = np.tensordot(_patches(x, w.shape[:2], stride, padding), w, axes=3)
    out += b if b.ndim == 1 else b[:, None, None, :]
    return out if residual is None else out + residual


@shapes("w (kh, kw, C, O), size = (H, W)", _output_size, "g (B, H', W', O) -> dx (B, H, W, C)")
def conv2d_backward_input(g: Array, w: Array, size: Size, stride: Count, padding: Padding) -> Array:
    """Gradient of `conv2d` in x, whose height and width are `size`."""
    (top, bottom), (left, right) = padding
    batch, rows, columns, _ = g.shape
    kh, kw, channels, _ = w.shape
    padded = np.zeros((batch, size[0] + top + bottom, size[1] + left + right, channels), g.dtype)
    for i in range(kh):
        for j in range(kw):
            padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride] += g @ w[i, j].T
    return padded[:, top : top + size[0], left : left + size[1]]


@shapes("x (B, H, W, C), kernel = (kh, kw)", _output_size, "g (B, H', W', O) -> dw (kh, kw, C, O)")
def conv2d_backward_weight(x: Array, g: Array, kernel: Size, stride: Count, padding: Padding) -> Array:
    """Gradient of `conv2d` in w, whose height and width are `kernel`."""
    return np.tensordot(_patches(x, kernel, stride, padding), g, axes=((0, 1, 2), (0, 1, 2)))


@shapes(
    "x (B, ..., C), gamma (C,), beta (C,), groups | C -> y (B, ..., C), mean (B, groups), rstd (B, groups)"
)
def group_norm(
    x: Array, gamma: Array, beta: Array, groups: int, eps: float, silu: bool
) -> tuple[Array, Array, Array]:
    """Normalise each image over each group of channels, scale and shift; with `silu`, SiLU of that.

    Returned for backward: the mean and the reciprocal standard deviation rstd = 1 / √(variance + eps).
    """
    grouped = _in_groups(x, groups)
    mean = grouped.mean(axis=(1, 3))
    rstd = 1 / np.sqrt(grouped.var(axis=(1, 3)) + eps)
    x_hat = (grouped - mean[:, None, :, None]) * rstd[:, None, :, None]
    z = x_hat.reshape(x.shape) * gamma + beta
    return (z * _sigmoid(z) if silu else z), mean, rstd


@shapes(
    "x (B, ..., C), g (B, ..., C), gamma (C,), beta (C,), mean (B, groups), rstd (B, groups), groups | C"
    " -> dx (B, ..., C), dgamma (C,), dbeta (C,)"
)
def group_norm_backward(
    g: Array, x: Array, gamma: Array, beta: Array, mean: Array, rstd: Array, silu: bool
) -> tuple[Array, Array, Array]:
    """Gradients of `group_norm` in x, gamma and beta, from that of y and the mean and rstd that forward returned."""
    grouped = _in_groups(x, groups=mean.shape[1])
    x_hat = ((grouped - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)
    if silu:
        g = silu_backward(g, x_hat * gamma + beta)
    axes = tuple(range(x.ndim - 1))
    scaled = (g * gamma).reshape(grouped.shape)
    centred = scaled - scaled.mean(axis=(1, 3), keepdims=True)
    projection = (scaled * x_hat.reshape(grouped.shape)).mean(axis=(1, 3), keepdims=True)
    dx = (centred - x_hat.reshape(grouped.shape) * projection) * rstd[:, None, :, None]
    return dx.reshape(x.shape), (g * x_hat).sum(axis=axes), g.sum(axis=axes)


def _in_groups(x: Array, groups: int) -> Array:
    """(B, ..., C) → (B, pixels, groups, C / groups)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(−x) may be infinite: the result is 0 then, as it should be
        return 1 / (1 + np.exp(-x))


@shapes("a (...), b (...) -> sum (...)")
def add(a: Array, b: Array) -> Array:
    """a + b: two gradients of one value, or a residual."""
    return a + b


@shapes("x (...) -> y (...)")
def silu(x: Array) -> Array:
    """x · sigmoid(x)."""
    return x * _sigmoid(x)


@shapes("g (...), x (...) -> dx (...)")
def silu_backward(g: Array, x: Array) -> Array:
    """g · d silu/dx, with silu′ = s (1 + x (1 − s)) and s = sigmoid(x)."""
    s = _sigmoid(x)
    return g * s * (1 + x * (1 - s))


@shapes("q (B, N, C), k (B, M, C), v (B, M, C), heads | C, M ≥ 1 -> y (B, N, C), weights (B, heads, M, N)")
def attention(q: Array, k: Array, v: Array, heads: int) -> tuple[Array, Array]:
    """Scaled dot-product attention, and its weights.

    Head h has the channels h·d … (h+1)·d − 1 with d = C / heads; scores are k·q / √d, one row for each key.
    """
    q, k, v = (_split_heads(a, heads) for a in (q, k, v))
    scores = k @ q.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return _join_heads(weights.swapaxes(2, 3) @ v), weights


@shapes(
    "q (B, N, C), k (B, M, C), v (B, M, C), g (B, N, C), weights (B, heads, M, N), heads | C, M ≥ 1"
    " -> dq (B, N, C), dk (B, M, C), dv (B, M, C)"
)
def attention_backward(g: Array, q: Array, k: Array, v: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Gradients of `attention` in q, k and v, from that of its output and the weights that forward returned."""
    g, q, k, v = (_split_heads(a, weights.shape[1]) for a in (g, q, k, v))
    dv = weights @ g
    dweights = v @ g.swapaxes(2, 3)
    dscores = weights * (dweights - (dweights * weights).sum(axis=2, keepdims=True))
    dscores /= math.sqrt(q.shape[-1])
    return _join_heads(dscores.swapaxes(2, 3) @ k), _join_heads(dscores @ q), _join_heads(dv)


def _split_heads(a: Array, heads: int) -> Array:
    """(B, N, C) → (B, heads, N, C / heads)."""
    return a.reshape(*a.shape[:2], heads, a.shape[2] // heads).swapaxes(1, 2)


def _join_heads(a: Array) -> Array:
    """(B, heads, N, d) → (B, N, heads · d)."""
    return a.swapaxes(1, 2).reshape(a.shape[0], a.shape[2], a.shape[1] * a.shape[3])


@shapes("g (N, C), index (N,) < rows -> table (rows, C)")
def scatter_rows(g: Array, index: Array, rows: int) -> Array:
    """Row i of g added to row index[i] of zeros: the gradient of an embedding table."""
    table = np.zeros((rows, g.shape[1]), g.dtype)
    np.add.at(table, index, g)
    return table


@shapes("out (rows, C), g (N, C), index (N,) < rows", changes="out")
def add_rows(out: Array, g: Array, index: Array) -> None:
    """Add row i of g to row index[i] of out, in place."""
    np.add.at(out, index, g)


def _depth(n: int, W: int) -> dict[str, int]:
    return {"L": n + 1, "L·W": (n + 1) * W}


@shapes(
    "x (B, I), weights [(I, W), n × (W, W), (W, O)], biases [(W,), n × (W,), (O,)], I ≥ 1, W ≥ 1, O ≥ 1",
    _depth,
    "tables [T × (rowsᵢ, L·W)], index (T, B) < rowsᵢ, T ≥ 1 -> y (B, O), z (B, L, W)",
)
def perceptron(
    x: Array, weights: list[Array], biases: list[Array], tables: list[Array], index: Array, keep: bool
) -> tuple[Array, Array | None]:
    """A conditional MLP: L hidden layers h ← SiLU(h·w + b + embeddings), then a linear one.

    tables: one embedding table for each input that the layers are conditioned on, such as time and label; a row holds
    the embeddings for all hidden layers, concatenated, and index selects it. With `keep` the second result is what
    backward needs, the pre-activations z, otherwise None.
    """
    embeddings = sum(table[row] for table, row in zip(tables, index, strict=True))
    h, pre_activations = x, []
    for w, b, embedding in zip(weights, biases, np.split(embeddings, len(weights) - 1, axis=1), strict=False):
        z = h @ w + b + embedding
        pre_activations.append(z)
        h = silu(z)
    return h @ weights[-1] + biases[-1], np.stack(pre_activations, axis=1) if keep else None


@shapes(
    "x (B, I), weights [(I, W), n × (W, W), (W, O)], I ≥ 1, W ≥ 1, O ≥ 1",
    _depth,
    "g (B, O), z (B, L, W) -> dx (B, I), dw [(I, W), n × (W, W), (W, O)], db [(W,), n × (W,), (O,)]",
    changes="z",
)
def perceptron_backward(
    g: Array, x: Array, weights: list[Array], z: Array
) -> tuple[Array, list[Array], list[Array]]:
    """Gradients of `perceptron` in x, weights and biases; z is overwritten with its own gradient."""
    dw, db = [], []
    for layer in range(z.shape[1] - 1, -1, -1):
        dw.insert(0, silu(z[:, layer]).T @ g)
        db.insert(0, g.sum(axis=0))
        g = silu_backward(g @ weights[layer + 1].T, z[:, layer])
        z[:, layer] = g
    return g @ weights[0].T, [x.T @ g, *dw], [g.sum(axis=0), *db]


@shapes(
    "parameter (n,), gradient (n,), moments [(n,), (n,)], ema (n,)", changes="parameter gradient moments ema"
)
def adam(
    parameter: Array,
    gradient: Array,
    moments: list[Array],
    ema: Array | None,
    step: Count,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    scale: float,
    ema_decay: float,
) -> None:
    """One step of Adam (Kingma & Ba 2015) on flat vectors, in place; the gradient is set to 0 afterwards.

    moments: the running means of the gradient and of its square, for which the decay rates are `betas`. The gradient
    is multiplied by `scale` (clipping); step counts from 1. ema, if given, is an exponential moving average of the
    parameters and becomes ema_decay · ema + (1 − ema_decay) · parameter.
    """
    first, second = moments
    scaled = gradient * parameter.dtype.type(scale)
    first += (1 - betas[0]) * (scaled - first)
    second += (1 - betas[1]) * (scaled * scaled - second)
    corrected = np.sqrt(second / (1 - betas[1] ** step)) + eps
    parameter -= lr / (1 - betas[0] ** step) * first / corrected
    gradient[...] = 0
    if ema is not None:
        ema += (1 - ema_decay) * (parameter - ema)


@shapes("vector (n,) -> norm ()")
def squared_norm(vector: Array) -> float:
    """Σ vectorᵢ², summed in float64."""
    wide = vector.astype(np.float64)
    return float(wide @ wide)
