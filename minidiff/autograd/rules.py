"""The table of rules, first half: the operations of NumPy. Each is one forward and, beside it, its vjps.

g is the gradient of a scalar with respect to the rule's result; the k-th function after the result takes it to
the gradient with respect to the k-th argument. Where NumPy broadcasts an argument, its gradient is the sum over
the copies (`_fit`). Shapes and axes are as in NumPy.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from minidiff import kernels
from minidiff.autograd.tape import VJP, Array, plus
from minidiff.autograd.tensor import Axis, Operand, Tensor, WithVJPs, rule


def _fit(like: Array) -> VJP:
    """The sum of g over the axes along which `like` was broadcast, so that it has the shape of `like`.

    A function of g that holds only this shape, so that an array of which no more is needed is freed.
    """
    shape = np.shape(like)

    def fit(g: Array) -> Array:
        if g.shape == shape:
            return g
        added = g.ndim - len(shape)
        stretched = tuple(i for i, n in enumerate(shape, added) if n == 1 and g.shape[i] != 1)
        summed: Array = g.sum(axis=(*range(added), *stretched))
        return summed.reshape(shape)

    return fit


# ---- arithmetic


@rule
def add(a: Array, b: Array) -> WithVJPs:
    """a + b."""
    return plus(a, b), _fit(a), _fit(b)


@rule
def subtract(a: Array, b: Array) -> WithVJPs:
    """a − b."""
    fit_b = _fit(b)
    return a - b, _fit(a), lambda g: fit_b(-g)


@rule
def multiply(a: Array, b: Array) -> WithVJPs:
    """a · b."""
    fit_a, fit_b = _fit(a), _fit(b)
    return a * b, lambda g: fit_a(g * b), lambda g: fit_b(g * a)


@rule
def divide(a: Array, b: Array) -> WithVJPs:
    """a / b."""
    fit_a, fit_b = _fit(a), _fit(b)
    return a / b, lambda g: fit_a(g / b), lambda g: fit_b(-g * a / (b * b))


@rule
def negative(a: Array) -> WithVJPs:
    """−a."""
    return -a, lambda g: -g


@rule
def power(a: Array, *, exponent: float) -> WithVJPs:
    """a to a constant power."""
    lower = exponent - 1 if exponent else 0  # the derivative of a⁰ is 0, at 0 too
    return a**exponent, lambda g: g * (exponent * a**lower)


# ---- elementwise functions


@rule
def exp(a: Array) -> WithVJPs:
    """eᵃ."""
    out = np.exp(a)
    return out, lambda g: g * out


@rule
def log(a: Array) -> WithVJPs:
    """The natural logarithm."""
    return np.log(a), lambda g: g / a


@rule
def sqrt(a: Array) -> WithVJPs:
    """The square root."""
    out = np.sqrt(a)
    return out, lambda g: g / (2 * out)


@rule
def tanh(a: Array) -> WithVJPs:
    """The hyperbolic tangent."""
    out = np.tanh(a)
    return out, lambda g: g * (1 - out * out)


@rule
def sigmoid(a: Array) -> WithVJPs:
    """1 / (1 + e⁻ᵃ), written with tanh, which does not overflow."""
    out = 0.5 * (1 + np.tanh(0.5 * a))
    return out, lambda g: g * out * (1 - out)


@rule
def silu(a: Array) -> WithVJPs:
    """a · sigmoid(a) (Ramachandran et al. 2017, 'swish')."""
    return kernels.silu(a), lambda g: kernels.silu_backward(g, a)


@rule
def relu(a: Array) -> WithVJPs:
    """max(a, 0); the derivative at 0 is taken as 0."""
    return np.maximum(a, 0), lambda g: g * (a > 0)


@rule
def gelu(a: Array) -> WithVJPs:
    """a · Φ(a) in the form with tanh (Hendrycks & Gimpel 2016): ½a(1 + tanh(√(2/π)(a + 0.044715a³)))."""
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    inner = np.tanh(scale * (a + cubic * a**3))

    def vjp(g: Array) -> Array:
        d_inner = (1 - inner * inner) * scale * (1 + 3 * cubic * a * a)
        da: Array = g * 0.5 * (1 + inner + a * d_inner)
        return da

    return 0.5 * a * (1 + inner), vjp


@rule
def maximum(a: Array, b: Array) -> WithVJPs:
    """The larger of two, which gets the whole gradient; where they are equal each gets half."""
    fit_a, fit_b = _fit(a), _fit(b)
    fraction = np.where(a == b, 0.5, a > b).astype(np.result_type(a, b))
    return np.maximum(a, b), lambda g: fit_a(g * fraction), lambda g: fit_b(g * (1 - fraction))


@rule
def clip(a: Array, *, low: float, high: float) -> WithVJPs:
    """a limited to [low, high]; the gradient is 0 where it lies outside."""
    return np.clip(a, low, high), lambda g: g * ((a >= low) & (a <= high))


@rule
def _where(a: Array, b: Array, *, condition: np.ndarray) -> WithVJPs:
    fit_a, fit_b = _fit(a), _fit(b)
    return (
        np.where(condition, a, b),
        lambda g: fit_a(np.where(condition, g, 0)),
        lambda g: fit_b(np.where(condition, 0, g)),
    )


def where(condition: np.ndarray, a: Operand, b: Operand) -> Tensor:
    """a where the boolean array `condition` holds, else b."""
    return _where(a, b, condition=condition)


# ---- reductions


@rule
def sum(a: Array, *, axis: Axis = None, keepdims: bool = False) -> WithVJPs:
    """The sum over `axis`; over all axes if it is None."""
    shape, out = a.shape, np.sum(a, axis=axis, keepdims=True)
    kept = out.shape
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: np.broadcast_to(g.reshape(kept), shape),
    )


@rule
def mean(a: Array, *, axis: Axis = None, keepdims: bool = False) -> WithVJPs:
    """The mean over `axis`; over all axes if it is None."""
    out = np.mean(a, axis=axis, keepdims=True)
    shape, kept, count = a.shape, out.shape, a.size / (out.size or 1)
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: np.broadcast_to(g.reshape(kept) / count, shape),
    )


@rule
def variance(a: Array, *, axis: Axis = None, keepdims: bool = False) -> WithVJPs:
    """The mean squared distance from the mean (divisor N) over `axis`; over all axes if it is None."""
    centred = a - np.mean(a, axis=axis, keepdims=True)
    out = np.mean(centred * centred, axis=axis, keepdims=True)
    factor = 2 * out.size / (a.size or 1)
    return (
        out if keepdims else np.squeeze(out, axis),
        lambda g: g.reshape(out.shape) * factor * centred,
    )


@rule
def max(a: Array, *, axis: Axis = None, keepdims: bool = False) -> WithVJPs:
    """The largest over `axis`; over all axes if it is None. Equal maxima share the gradient equally."""
    out = np.max(a, axis=axis, keepdims=True)

    def vjp(g: Array) -> Array:
        largest: Array = (a == out).astype(g.dtype)
        largest *= g.reshape(out.shape) / largest.sum(axis=axis, keepdims=True)
        return largest

    return out if keepdims else np.squeeze(out, axis), vjp


# ---- shape


@rule
def reshape(a: Array, *, shape: tuple[int, ...]) -> WithVJPs:
    """The same numbers in the same order in another shape."""
    before = a.shape
    return a.reshape(shape), lambda g: g.reshape(before)


@rule
def transpose(a: Array, *, axes: tuple[int, ...] | None = None) -> WithVJPs:
    """Axis i of the result is axis axes[i] of a; without axes, their order is reversed."""
    back = None if axes is None else tuple(np.argsort([i % a.ndim for i in axes]))
    return np.transpose(a, axes), lambda g: np.transpose(g, back)


@rule
def getitem(a: Array, *, index: Any) -> WithVJPs:
    """a[index], for any index of NumPy; an entry that is selected twice gets the sum of both gradients."""
    shape, dtype = a.shape, a.dtype
    entries = index if isinstance(index, tuple) else (index,)
    once = all(i is None or i is ... or isinstance(i, (int, np.integer, slice)) for i in entries)

    def vjp(g: Array) -> Array:
        whole = np.zeros(shape, dtype)
        if once:
            whole[index] = g
        else:
            np.add.at(whole, index, g)
        return whole

    return a[index], vjp


@rule
def concatenate(*arrays: Array, axis: int = 0) -> WithVJPs:
    """The arrays one after the other along `axis`."""
    axis %= arrays[0].ndim
    ends = list(itertools.accumulate(a.shape[axis] for a in arrays))
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    joined = kernels.empty((*before, ends[-1], *after), np.result_type(*arrays))

    def slice_of(end: int, length: int) -> VJP:  # copied here, since every further use would copy it
        return lambda g: kernels.copy(g[(*map(slice, before), slice(end - length, end))])

    np.concatenate(arrays, axis=axis, out=joined)
    return joined, *(slice_of(end, a.shape[axis]) for end, a in zip(ends, arrays, strict=True))


@rule
def pad(a: Array, *, widths: tuple[tuple[int, int], ...]) -> WithVJPs:
    """Zeros around a: widths[i] of them before and after along axis i."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, a.shape, strict=True))
    return np.pad(a, widths), lambda g: g[inside]


# ---- products


@rule
def matmul(a: Array, b: Array) -> WithVJPs:
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
