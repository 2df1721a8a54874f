"""Kernels: arrays in, arrays out; what each computes is said in `reference`.

float32 goes to the compiled kernel and float64 to the reference, as float32 does too when the environment holds
MINIDIFF_KERNELS=reference. Arrays may lie in memory as they like; only what `adam` and `ema` change in place
must be contiguous.
"""

import os
from collections.abc import Callable
from functools import wraps
from threading import Lock

import numpy as np

from . import checks, convolution, dense, multihead, normalisation, optimisation, pointwise, reference, rows

_MODE = os.environ.get("MINIDIFF_KERNELS", "numba")
if _MODE not in ("numba", "reference"):
    raise ValueError(f"MINIDIFF_KERNELS must be 'numba' or 'reference', not {_MODE!r}")

# One kernel at a time has all the cores anyway, and where Numba finds no OpenMP it aborts when two threads launch.
_LAUNCH = Lock()


def _plain(value):
    """The value; an array that Numba would take for another type (strided, read-only, a subclass) as a copy."""
    if not isinstance(value, np.ndarray) or (type(value) is np.ndarray and value.flags.carray):
        return value
    return np.array(value, order="C", subok=False)


def _dispatch(compiled: Callable) -> Callable:
    """The public function: checked first, then compiled or as the reference has it."""
    name = compiled.__name__
    specification, check = getattr(reference, name), getattr(checks, name)

    @wraps(specification)
    def call(*args, **kwargs):
        wide = check(*args, **kwargs) == np.float64
        if wide or _MODE == "reference":
            return specification(*args, **kwargs)
        args, kwargs = map(_plain, args), {key: _plain(value) for key, value in kwargs.items()}
        with _LAUNCH:
            return compiled(*args, **kwargs)

    return call


linear = _dispatch(dense.linear)
linear_backward_input = _dispatch(dense.linear_backward_input)
linear_backward_weight = _dispatch(dense.linear_backward_weight)
sum_rows = _dispatch(rows.sum_rows)
conv2d = _dispatch(convolution.conv2d)
conv2d_backward_input = _dispatch(convolution.conv2d_backward_input)
conv2d_backward_weight = _dispatch(convolution.conv2d_backward_weight)
group_norm = _dispatch(normalisation.group_norm)
group_norm_backward = _dispatch(normalisation.group_norm_backward)
add = _dispatch(pointwise.add)
silu = _dispatch(pointwise.silu)
silu_backward = _dispatch(pointwise.silu_backward)
attention = _dispatch(multihead.attention)
attention_backward = _dispatch(multihead.attention_backward)
scatter_rows = _dispatch(rows.scatter_rows)
adam = _dispatch(optimisation.adam)
ema = _dispatch(optimisation.ema)
squared_norm = _dispatch(optimisation.squared_norm)
