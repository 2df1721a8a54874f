"""The table of rules, first half: what NumPy itself has. Each is one forward and, beside it, its vjps.

g is the gradient of a scalar in the rule's result; the k-th function after the result takes it to the
gradient in the k-th argument. Where NumPy broadcasts an argument, its gradient is the sum over the copies
(`_fit`). The shapes and axes mean what they mean in NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from minidiff import kernels
from minidiff.autograd.tensor import Tensor, plus, rule

Axis = int | tuple[int, ...] | None


def _fit(like: object) -> Callable[[np.ndarray], np.ndarray]:
    """The sum of g over the axes along which `like` was broadcast, so that it has the shape of `like`.

    A function of g which holds that shape and not the array, so that what only its shape is needed of is freed.
    """
    shape = np.shape(like)

    def fit(g: np.ndarray) -> np.ndarray:
        if g.shape == shape:
            return g
        added = g.ndim - len(shape)
        stretched = tuple(i for i, n in enumerate(shape, added) if n == 1 and g.shape[i] != 1)
        return g.sum(axis=(*range(added), *stretched)).reshape(shape)

    return fit


# ---- arithmetic


@rule
def add(a, b):
    """a + b."""
    return plus(a, b), _fit(a), _fit(b)


@rule
def subtract(a, b):
    """a − b."""
    fit_b = _fit(b)
    return a - b, _fit(a), lambda g: fit_b(-g)


@rule
def multiply(a, b):
    """a · b."""
    fit_a, fit_b = _fit(a), _fit(b)
    return a * b, lambda g: fit_a(g * b), lambda g: fit_b(g * a)


@rule
def divide(a, b):
    """a / b."""
    fit_a, fit_b = _fit(a), _fit(b)
    return a / b, lambda g: fit_a(g / b), lambda g: fit_b(-g * a / (b * b))


@rule
def negative(a):
    """−a."""
    return -a, lambda g: -g


@rule
def power(a, *, exponent: float):
    """a to a constant power."""
    lower = exponent - 1 if exponent else 0  # the derivative of a⁰ is 0, at 0 too
    return a**exponent, lambda g: g * (exponent * a**lower)


# ---- one number at a time


@rule
def exp(a):
    """eᵃ."""
    out = np.exp(a)
    return out, lambda g: g * out


@rule
def log(a):
    """The natural logarithm."""
    return np.log(a), lambda g: g / a


@rule
def sqrt(a):
    """The square root."""
    out = np.sqrt(a)
    return out, lambda g: g / (2 * out)


@rule
def tanh(a):
    """The hyperbolic tangent."""
    out = np.tanh(a)
    return out, lambda g: g * (1 - out * out)


@rule
def sigmoid(a):
    """1 / (1 + e⁻ᵃ), written with tanh, which does not overflow."""
    out = 0.5 * (1 + np.tanh(0.5 * a))
    return out, lambda g: g * out * (1 - out)


@rule
def silu(a):
    """a · sigmoid(a) (Ramachandran et al. 2017, 'swish')."""
    return kernels.silu(a), lambda g: kernels.silu_backward(g, a)


@rule
def relu(a):
    """max(a, 0); the derivative at 0 is taken as 0."""
    return np.maximum(a, 0), lambda g: g * (a > 0)


@rule
def gelu(a):
    """a · Φ(a) in the form with tanh (Hendrycks & Gimpel 2016): ½a(1 + tanh(√(2/π)(a + 0.044715a³)))."""
    slope, cubic = math.sqrt(2 / math.pi), 0.044715
    inner = np.tanh(slope * (a + cubic * a**3))

    def vjp(g):
        d_inner = (1 - inner * inner) * slope * (1 + 3 * cubic * a * a)
        return g * 0.5 * (1 + inner + a * d_inner)

    return 0.5 * a * (1 + inner), vjp


@rule
def maximum(a, b):
    """The larger of two, which takes the whole gradient; where they are equal each takes half."""
    fit_a, fit_b = _fit(a), _fit(b)
    share = np.where(a == b, 0.5, a > b).astype(np.result_type(a, b))
    return np.maximum(a, b), lambda g: fit_a(g * share), lambda g: fit_b(g * (1 - share))


@rule
def clip(a, *, low: float, high: float):
    """a held inside [low, high]; no gradient where it lay outside."""
    return np.clip(a, low, high), lambda g: g * ((a >= low) & (a <= high))


@rule
def _where(a, b, *, condition):
    fit_a, fit_b = _fit(a), _fit(b)
    return (
        np.where(condition, a, b),
        lambda g: fit_a(np.where(condition, g, 0)),
        lambda g: fit_b(np.where(condition, 0, g)),
    )


def where(condition: np.ndarray, a: object, b: object) -> Tensor:
    """a where the boolean array `condition` holds, else b."""
    return _where(a, b, condition=condition)


# ---- sums


@rule
def sum(a, *, axis: Axis = None, keepdims: bool = False):
    """The sum over `axis`, over everything without one."""
    shape, out = a.shape, np.sum(a, axis=axis, keepdims=True)
    kept = out.shape
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: np.broadcast_to(g.reshape(kept), shape),
    )


@rule
def mean(a, *, axis: Axis = None, keepdims: bool = False):
    """The mean over `axis`, over everything without one."""
    out = np.mean(a, axis=axis, keepdims=True)
    shape, kept, count = a.shape, out.shape, a.size / max(out.size, 1)
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: np.broadcast_to(g.reshape(kept) / count, shape),
    )


@rule
def variance(a, *, axis: Axis = None, keepdims: bool = False):
    """The mean squared distance from the mean (divisor N) over `axis`, over everything without one."""
    centred = a - np.mean(a, axis=axis, keepdims=True)
    out = np.mean(centred * centred, axis=axis, keepdims=True)
    share = 2 * out.size / max(a.size, 1)
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: g.reshape(out.shape) * share * centred,
    )


# ---- shape


@rule
def reshape(a, *, shape: tuple[int, ...]):
    """The same numbers in the same order in another shape."""
    before = a.shape
    return a.reshape(shape), lambda g: g.reshape(before)


@rule
def transpose(a, *, axes: tuple[int, ...] | None = None):
    """Axis i of the result is axis axes[i] of a; without axes, their order is reversed."""
    back = None if axes is None else tuple(np.argsort([i % a.ndim for i in axes]))
    return np.transpose(a, axes), lambda g: np.transpose(g, back)


@rule
def getitem(a, *, index):
    """a[index], for anything that NumPy takes as an index; an entry taken twice gets both gradients."""

    shape, dtype = a.shape, a.dtype
    entries = index if isinstance(index, tuple) else (index,)
    once = all(i is None or i is ... or isinstance(i, (int, np.integer, slice)) for i in entries)

    def vjp(g):
        whole = np.zeros(shape, dtype)
        if once:
            whole[index] = g
        else:
            np.add.at(whole, index, g)
        return whole

    return a[index], vjp


@rule
def concatenate(*parts, axis: int = 0):
    """The parts one after the other along `axis`."""
    axis %= parts[0].ndim
    ends = list(itertools.accumulate(p.shape[axis] for p in parts))
    before, after = parts[0].shape[:axis], parts[0].shape[axis + 1 :]
    joined = kernels.empty((*before, ends[-1], *after), np.result_type(*parts))

    def part_of(end, length):  # copied: whoever takes it further would copy it for itself
        return lambda g: kernels.copy(g[(*map(slice, before), slice(end - length, end))])

    np.concatenate(parts, axis=axis, out=joined)
    return joined, *(part_of(end, p.shape[axis]) for end, p in zip(ends, parts, strict=True))


@rule
def pad(a, *, widths: tuple[tuple[int, int], ...]):
    """Zeros around a: widths[i] of them before and after along axis i."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, a.shape, strict=True))
    return np.pad(a, widths), lambda g: g[inside]


# ---- products


@rule
def matmul(a, b):
    """The matrix product over the last two axes, batched over those before; a vector is a row or a column."""
    rows = a[None, :] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    full = (*batch, rows.shape[-2], columns.shape[-1])
    fit_rows, fit_columns, shape_a, shape_b = _fit(rows), _fit(columns), a.shape, b.shape
    return (
        a @ b,
        lambda g: fit_rows(g.reshape(full) @ columns.swapaxes(-1, -2)).reshape(shape_a),
        lambda g: fit_columns(rows.swapaxes(-1, -2) @ g.reshape(full)).reshape(shape_b),
    )


# ---- the same as methods and operators of a tensor


def _one_tuple(numbers: tuple) -> tuple[int, ...]:
    """As in NumPy, a method's numbers may come one by one or as one tuple."""
    return tuple(numbers[0]) if len(numbers) == 1 and np.iterable(numbers[0]) else numbers


Tensor.__add__ = Tensor.__radd__ = lambda a, b: add(a, b)
Tensor.__sub__ = lambda a, b: subtract(a, b)
Tensor.__rsub__ = lambda a, b: subtract(b, a)
Tensor.__mul__ = Tensor.__rmul__ = lambda a, b: multiply(a, b)
Tensor.__truediv__ = lambda a, b: divide(a, b)
Tensor.__rtruediv__ = lambda a, b: divide(b, a)
Tensor.__neg__ = lambda a: negative(a)
Tensor.__pow__ = lambda a, exponent: power(a, exponent=exponent)
Tensor.__matmul__ = lambda a, b: matmul(a, b)
Tensor.__rmatmul__ = lambda a, b: matmul(b, a)
Tensor.__getitem__ = lambda a, index: getitem(a, index=index)
Tensor.sum = sum
Tensor.mean = mean
Tensor.reshape = lambda a, *shape: reshape(a, shape=_one_tuple(shape))
Tensor.transpose = lambda a, *axes: transpose(a, axes=_one_tuple(axes) or None)
