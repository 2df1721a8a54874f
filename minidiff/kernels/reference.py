"""What every kernel computes, in short plain NumPy: the specification of `minidiff.kernels`.

Images are (B, H, W, C), channels last. These functions take float32 or float64 and return the same dtype; the tests
compare the compiled kernels with them in float64.
"""

import math

import numpy as np

Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)), zeros


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, I) @ (I, O) + (O,) → (N, O)."""
    return x @ w + b


def linear_backward_input(g: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Gradient of `linear` in x: (N, O), (I, O) → (N, I)."""
    return g @ w.T


def linear_backward_weight(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Gradient of `linear` in w: (N, I), (N, O) → (I, O)."""
    return x.T @ g


def sum_rows(g: np.ndarray) -> np.ndarray:
    """(N, C) → (C,): the gradient of a bias that was added to every row."""
    return g.sum(axis=0)


def _patches(x: np.ndarray, kernel: tuple[int, int], stride: int, padding: Padding) -> np.ndarray:
    """The receptive field of every output pixel (im2col), as a view: (B, H', W', kh, kw, C)."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return patches[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    stride: int,
    padding: Padding,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """x (B, H, W, C), w (kh, kw, C, O), b (O,) → (B, H', W', O): cross-correlation, as in every framework.

    H' = (H + top + bottom − kh) // stride + 1, and W' likewise. b may be (B, O), one bias for each image; a residual of
    the result's shape is added to it.
    """
    out = np.tensordot(_patches(x, w.shape[:2], stride, padding), w, axes=3)
    out += b if b.ndim == 1 else b[:, None, None, :]
    return out if residual is None else out + residual


def conv2d_backward_input(
    g: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """Gradient of `conv2d` in x, whose height and width are `size`: (B, H', W', O) → (B, H, W, C)."""
    (top, bottom), (left, right) = padding
    batch, rows, columns, _ = g.shape
    kh, kw, channels, _ = w.shape
    padded = np.zeros((batch, size[0] + top + bottom, size[1] + left + right, channels), g.dtype)
    for i in range(kh):
        for j in range(kw):
            padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride] += g @ w[i, j].T
    return padded[:, top : top + size[0], left : left + size[1]]


def conv2d_backward_weight(
    x: np.ndarray, g: np.ndarray, kernel: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """Gradient of `conv2d` in w: x (B, H, W, C), g (B, H', W', O) → (kh, kw, C, O)."""
    return np.tensordot(_patches(x, kernel, stride, padding), g, axes=((0, 1, 2), (0, 1, 2)))


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise each image over each group of channels, scale and shift; with `silu`, SiLU of that.

    x (B, ..., C), gamma and beta (C,) → y as x, and for backward the mean and the reciprocal standard deviation
    rstd = 1 / √(variance + eps), (B, groups).
    """
    grouped = _in_groups(x, groups)
    mean = grouped.mean(axis=(1, 3))
    rstd = 1 / np.sqrt(grouped.var(axis=(1, 3)) + eps)
    x_hat = (grouped - mean[:, None, :, None]) * rstd[:, None, :, None]
    z = x_hat.reshape(x.shape) * gamma + beta
    return (z * _sigmoid(z) if silu else z), mean, rstd


def group_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    silu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _in_groups(x: np.ndarray, groups: int) -> np.ndarray:
    """(B, ..., C) → (B, pixels, groups, C / groups)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(
        over="ignore"
    ):  # exp(−x) may overflow to infinity: the result is then 0, as it should be
        return 1 / (1 + np.exp(-x))


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, of equal shapes: two gradients of one value, or a residual."""
    return a + b


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x)."""
    return x * _sigmoid(x)


def silu_backward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """g · d silu/dx, with silu′ = s (1 + x (1 − s)) and s = sigmoid(x)."""
    s = _sigmoid(x)
    return g * s * (1 + x * (1 - s))


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled dot-product attention: q (B, N, C), k and v (B, M, C) → (B, N, C), and the weights (B, heads, M, N).

    Head h has the channels h·d … (h+1)·d − 1 with d = C / heads; scores are k·q / √d, one row for each key.
    """
    q, k, v = (_split_heads(a, heads) for a in (q, k, v))
    scores = k @ q.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return _join_heads(weights.swapaxes(2, 3) @ v), weights


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `attention` in q, k and v, from that of its output and the weights that forward returned."""
    g, q, k, v = (_split_heads(a, weights.shape[1]) for a in (g, q, k, v))
    dv = weights @ g
    dweights = v @ g.swapaxes(2, 3)
    dscores = weights * (dweights - (dweights * weights).sum(axis=2, keepdims=True))
    dscores /= math.sqrt(q.shape[-1])
    return _join_heads(dscores.swapaxes(2, 3) @ k), _join_heads(dscores @ q), _join_heads(dv)


def _split_heads(a: np.ndarray, heads: int) -> np.ndarray:
    """(B, N, C) → (B, heads, N, C / heads)."""
    return a.reshape(*a.shape[:2], heads, a.shape[2] // heads).swapaxes(1, 2)


def _join_heads(a: np.ndarray) -> np.ndarray:
    """(B, heads, N, d) → (B, N, heads · d)."""
    return a.swapaxes(1, 2).reshape(a.shape[0], a.shape[2], a.shape[1] * a.shape[3])


def scatter_rows(g: np.ndarray, index: np.ndarray, rows: int) -> np.ndarray:
    """(N, C), (N,) → (rows, C): row i of g added to row index[i]. The gradient of an embedding table."""
    table = np.zeros((rows, g.shape[1]), g.dtype)
    np.add.at(table, index, g)
    return table


def add_rows(out: np.ndarray, g: np.ndarray, index: np.ndarray) -> None:
    """Add row i of g (N, C) to row index[i] of out (rows, C), in place."""
    np.add.at(out, index, g)


def perceptron(
    x: np.ndarray,
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    tables: list[np.ndarray],
    index: np.ndarray,
    keep: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """A conditional MLP: hidden layers h ← SiLU(h·w + b + embeddings), then a linear one: x (B, I) → (B, O).

    weights, biases: (I, W) and (W,), (W, W) and (W,), …, (W, O) and (O,). tables: one embedding table (rows,
    hidden layers · W) for each input that the layers are conditioned on, such as time and label; a row holds the
    embeddings for all hidden layers, concatenated, and index (tables, B) selects it. With `keep` the second result is
    what backward needs, the pre-activations z (B, hidden layers, W), otherwise None.
    """
    embeddings = sum(table[row] for table, row in zip(tables, index, strict=True))
    h, pre_activations = x, []
    for w, b, embedding in zip(weights, biases, np.split(embeddings, len(weights) - 1, axis=1), strict=False):
        z = h @ w + b + embedding
        pre_activations.append(z)
        h = silu(z)
    return h @ weights[-1] + biases[-1], np.stack(pre_activations, axis=1) if keep else None


def perceptron_backward(
    g: np.ndarray, x: np.ndarray, weights: list[np.ndarray], z: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Gradients of `perceptron` in x, weights and biases; z is overwritten with its own gradient."""
    dw, db = [], []
    for layer in range(z.shape[1] - 1, -1, -1):
        dw.insert(0, silu(z[:, layer]).T @ g)
        db.insert(0, g.sum(axis=0))
        g = silu_backward(g @ weights[layer + 1].T, z[:, layer])
        z[:, layer] = g
    return g @ weights[0].T, [x.T @ g, *dw], [g.sum(axis=0), *db]


def adam(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    ema: np.ndarray | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    scale: float,
    ema_decay: float,
) -> None:
    """One step of Adam (Kingma & Ba 2015) on flat vectors, in place; the gradient is set to 0 afterwards.

    The gradient is multiplied by `scale` (clipping); step counts from 1. ema, if given, is an exponential moving
    average of the parameters and becomes ema_decay · ema + (1 − ema_decay) · parameter.
    """
    scaled = gradient * parameter.dtype.type(scale)
    first_moment += (1 - beta1) * (scaled - first_moment)
    second_moment += (1 - beta2) * (scaled * scaled - second_moment)
    corrected = np.sqrt(second_moment / (1 - beta2**step)) + eps
    parameter -= lr / (1 - beta1**step) * first_moment / corrected
    gradient[...] = 0
    if ema is not None:
        ema += (1 - ema_decay) * (parameter - ema)


def squared_norm(vector: np.ndarray) -> float:
    """Σ vectorᵢ², summed in float64."""
    wide = vector.astype(np.float64)
    return float(wide @ wide)
