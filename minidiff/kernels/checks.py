"""Checks of each kernel's arguments, made before it runs; each returns the dtype of the computation.

A function here has the name and the arguments of the kernel in `reference` that it checks. It raises TypeError
for dtypes, ValueError for shapes and settings, IndexError for an index out of range.

The compiled kernels compute with raw addresses: with a wrong shape they would read out of bounds.
"""

from collections.abc import Callable
from functools import lru_cache
from numbers import Integral, Real
from typing import get_args, get_origin

import numpy as np

from .reference import Padding

_KINDS = (np.dtype(np.float32), np.dtype(np.float64))
_SCALARS = {
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    bool: ((bool, np.bool_), "True or False"),
}


def converter(name: str, kind: type) -> Callable:
    """A function that converts an argument annotated as `kind` to a plain Python type, or raises TypeError.

    NumPy's numbers become Python's (Numba would compile a kernel anew for each of NumPy's types), lists of numbers
    become tuples, and tuples of arrays lists.
    """

    def array(value):
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, not {type(value).__name__}")
        return value

    def optional(value):
        if value is not None and not isinstance(value, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array or None, not {type(value).__name__}")
        return value

    def arrays(value):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list, not {type(value).__name__}")
        for i, item in enumerate(value):
            if not isinstance(item, np.ndarray):
                raise TypeError(f"{name}[{i}] must be a NumPy array, not {type(item).__name__}")
        return list(value)

    def scalar(value):
        if type(value) is kind:
            return value
        family, description = _SCALARS[kind]
        if not isinstance(value, family):
            raise TypeError(f"{name} must be {description}, not {value!r}")
        return kind(value)

    def items(value):
        try:
            return tuple(convert(item) for convert, item in zip(converters, value, strict=True))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be like {form}, not {value!r}") from error

    if kind == np.ndarray | None:
        return optional
    if kind in _SCALARS:
        return scalar
    if get_origin(kind) is tuple:
        converters, form = [converter(name, item) for item in get_args(kind)], _form(kind)
        return items
    return array if kind is np.ndarray else arrays


def _form(kind: type) -> str:
    """An example of nested tuples of integers."""
    return f"({', '.join(map(_form, get_args(kind)))})" if get_origin(kind) is tuple else "1"


def _dtype(*arrays: np.ndarray) -> np.dtype:
    kind = arrays[0].dtype
    for array in arrays:
        if array.dtype != kind or kind not in _KINDS:
            found = ", ".join(str(a.dtype) for a in arrays)
            raise TypeError(f"kernels take arrays that are all float32 or all float64, not {found}")
    return kind


def _shape(name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected} here, not {array.shape}")


def _shapes(name: str, arrays: list[np.ndarray], expected: list[tuple[int, ...]]) -> None:
    if [array.shape for array in arrays] != expected:
        for i, (array, shape) in enumerate(zip(arrays, expected, strict=True)):
            _shape(f"{name}[{i}]", array, shape)


def _dimensions(name: str, array: np.ndarray, form: str, count: int) -> None:
    if array.ndim != count:
        raise ValueError(f"{name} must be {form}, not of shape {array.shape}")


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.dtype:
    _dimensions("w", w, "(I, O)", 2)
    _dimensions("x", x, "(N, I)", 2)
    _shape("x", x, (x.shape[0], w.shape[0]))
    _shape("b", b, (w.shape[1],))
    return _dtype(x, w, b)


def linear_backward_input(g: np.ndarray, w: np.ndarray) -> np.dtype:
    _dimensions("w", w, "(I, O)", 2)
    _dimensions("g", g, "(N, O)", 2)
    _shape("g", g, (g.shape[0], w.shape[1]))
    return _dtype(g, w)


def linear_backward_weight(x: np.ndarray, g: np.ndarray) -> np.dtype:
    _dimensions("x", x, "(N, I)", 2)
    _dimensions("g", g, "(N, O)", 2)
    _shape("g", g, (x.shape[0], g.shape[1]))
    return _dtype(x, g)


def sum_rows(g: np.ndarray) -> np.dtype:
    _dimensions("g", g, "(N, C)", 2)
    return _dtype(g)


@lru_cache(maxsize=256)
def _output_size(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding
) -> tuple[int, int]:
    """Height and width of a convolution's output."""
    if stride < 1 or min(padding[0]) < 0 or min(padding[1]) < 0:
        raise ValueError(f"stride must be at least 1 and padding at least 0, not {stride} and {padding}")
    height, width = (
        (n + before + after - k) // stride + 1
        for n, k, (before, after) in zip(size, kernel, padding, strict=True)
    )
    if height < 1 or width < 1:
        raise ValueError(f"a kernel of {tuple(kernel)} does not fit into {tuple(size)} padded by {padding}")
    return height, width


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    stride: int,
    padding: Padding,
    residual: np.ndarray | None = None,
) -> np.dtype:
    _dimensions("x", x, "(B, H, W, C)", 4)
    _dimensions("w", w, "(kh, kw, C, O)", 4)
    _shape("x", x, (*x.shape[:3], w.shape[2]))
    _shape("b", b, (w.shape[3],) if b.ndim == 1 else (x.shape[0], w.shape[3]))
    size = _output_size(x.shape[1:3], w.shape[:2], stride, padding)
    if residual is None:
        return _dtype(x, w, b)
    _shape("residual", residual, (x.shape[0], *size, w.shape[3]))
    return _dtype(x, w, b, residual)


def conv2d_backward_input(
    g: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int, padding: Padding
) -> np.dtype:
    _dimensions("g", g, "(B, H', W', O)", 4)
    _dimensions("w", w, "(kh, kw, C, O)", 4)
    _shape("g", g, (g.shape[0], *_output_size(tuple(size), w.shape[:2], stride, padding), w.shape[3]))
    return _dtype(g, w)


def conv2d_backward_weight(
    x: np.ndarray, g: np.ndarray, kernel: tuple[int, int], stride: int, padding: Padding
) -> np.dtype:
    _dimensions("x", x, "(B, H, W, C)", 4)
    _dimensions("g", g, "(B, H', W', O)", 4)
    _shape("g", g, (x.shape[0], *_output_size(x.shape[1:3], tuple(kernel), stride, padding), g.shape[3]))
    return _dtype(x, g)


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, silu: bool
) -> np.dtype:
    if x.ndim < 2:
        raise ValueError(f"x must be (B, ..., C), not of shape {x.shape}")
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"groups must divide the {x.shape[-1]} channels, and {groups} does not")
    _shape("gamma", gamma, x.shape[-1:])
    _shape("beta", beta, x.shape[-1:])
    return _dtype(x, gamma, beta)


def group_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    silu: bool,
) -> np.dtype:
    _shape("g", g, x.shape)
    _dimensions("mean", mean, "(B, groups)", 2)
    _shape("mean", mean, (x.shape[0], mean.shape[1]))
    _shape("rstd", rstd, mean.shape)
    group_norm(x, gamma, beta, mean.shape[1], 0.0, silu)
    return _dtype(g, x, gamma, beta, mean, rstd)


def add(a: np.ndarray, b: np.ndarray) -> np.dtype:
    _shape("b", b, a.shape)
    return _dtype(a, b)


def silu(x: np.ndarray) -> np.dtype:
    return _dtype(x)


def silu_backward(g: np.ndarray, x: np.ndarray) -> np.dtype:
    _shape("g", g, x.shape)
    return _dtype(g, x)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.dtype:
    _dimensions("q", q, "(B, N, C)", 3)
    _dimensions("k", k, "(B, M, C)", 3)
    _shape("k", k, (q.shape[0], k.shape[1], q.shape[2]))
    _shape("v", v, k.shape)
    if heads < 1 or q.shape[2] % heads:
        raise ValueError(f"heads must divide the {q.shape[2]} channels, and {heads} does not")
    if k.shape[1] < 1:
        raise ValueError("attention needs at least one key")
    return _dtype(q, k, v)


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> np.dtype:
    _dimensions("weights", weights, "(B, heads, M, N)", 4)
    attention(q, k, v, weights.shape[1])
    _shape("g", g, q.shape)
    _shape("weights", weights, (q.shape[0], weights.shape[1], k.shape[1], q.shape[1]))
    return _dtype(g, q, k, v, weights)


def _index(index: np.ndarray, rows: int) -> None:
    if index.dtype.kind not in "iu":
        raise TypeError(f"index must hold integers, not {index.dtype}")
    # Read as unsigned integers, negative ones become huge: one pass finds both errors.
    if index.size and index.view(f"u{index.itemsize}").max() >= rows:
        raise IndexError(f"index must lie in 0…{rows - 1}, but spans {index.min()}…{index.max()}")


def scatter_rows(g: np.ndarray, index: np.ndarray, rows: int) -> np.dtype:
    _dimensions("g", g, "(N, C)", 2)
    _shape("index", index, g.shape[:1])
    _index(index, rows)
    return _dtype(g)


def add_rows(out: np.ndarray, g: np.ndarray, index: np.ndarray) -> np.dtype:
    _dimensions("out", out, "(rows, C)", 2)
    _dimensions("g", g, "(N, C)", 2)
    _shape("g", g, (g.shape[0], out.shape[1]))
    _shape("index", index, g.shape[:1])
    _index(index, len(out))
    _check_inplace((out,), (g, index))
    return _dtype(out, g)


def _layers(x: np.ndarray, weights: list[np.ndarray]) -> tuple[int, int]:
    """The number of hidden layers and their width."""
    _dimensions("x", x, "(B, I)", 2)
    if len(weights) < 2:
        raise ValueError(f"a perceptron needs a hidden layer and a last one, not {len(weights)} weights")
    _dimensions("weights[-1]", weights[-1], "(W, O)", 2)
    width = len(weights[-1])
    if not (x.shape[1] and weights[-1].size):
        raise ValueError(
            f"layers must not be empty: x is {x.shape}, the last weights are {weights[-1].shape}"
        )
    inner = [(width, width)] * (len(weights) - 2)
    _shapes("weights", weights, [(x.shape[1], width), *inner, weights[-1].shape])
    return len(weights) - 1, width


def perceptron(
    x: np.ndarray,
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    tables: list[np.ndarray],
    index: np.ndarray,
    keep: bool,
) -> np.dtype:
    depth, width = _layers(x, weights)
    if len(biases) != len(weights) or not tables:
        raise ValueError(
            f"{depth} hidden layers need {depth + 1} biases and a table, not {len(biases)} and {len(tables)}"
        )
    _shapes("biases", biases, [w.shape[1:] for w in weights])
    _shapes("tables", tables, [(*table.shape[:1], depth * width) for table in tables])
    _shape("index", index, (len(tables), len(x)))
    for rows, table in zip(index, tables, strict=True):
        _index(rows, len(table))
    return _dtype(x, *weights, *biases, *tables)


def perceptron_backward(g: np.ndarray, x: np.ndarray, weights: list[np.ndarray], z: np.ndarray) -> np.dtype:
    depth, width = _layers(x, weights)
    _shape("g", g, (len(x), weights[-1].shape[1]))
    _shape("z", z, (len(x), depth, width))
    _check_inplace((z,), (g, x, *weights))
    return _dtype(g, x, *weights, z)


def _flat(*vectors: np.ndarray) -> np.dtype:
    for vector in vectors:
        if vector.ndim != 1 or not vector.flags.c_contiguous or vector.size != vectors[0].size:
            shapes = ", ".join(str(v.shape) for v in vectors)
            raise ValueError(f"expected contiguous vectors of one size, not shapes {shapes}")
    return _dtype(*vectors)


def _check_inplace(changed: tuple[np.ndarray, ...], others: tuple[np.ndarray, ...]) -> None:
    for i, vector in enumerate(changed):
        if not vector.flags.carray:
            raise ValueError(
                "what is changed in place must be contiguous, aligned in memory and not read-only"
            )
        if any(np.may_share_memory(vector, other) for other in (*changed[:i], *others)):
            raise ValueError("what is changed in place must not share memory with another argument")


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
) -> np.dtype:
    if step < 1:
        raise ValueError(f"step counts from 1, and is {step}")
    changed = (parameter, gradient, first_moment, second_moment) + (() if ema is None else (ema,))
    _check_inplace(changed, ())
    return _flat(*changed)


def squared_norm(vector: np.ndarray) -> np.dtype:
    return _flat(vector)
