"""Kernels: arrays in, arrays out; what each computes is said in `reference`.

float32 goes to the compiled kernel and float64 to the reference, as float32 does too when the environment holds
MINIDIFF_KERNELS=reference. Arrays may lie in memory as they like; only what is changed in place (by `adam`,
`add_rows` and `perceptron_backward`) must be contiguous. A NaN or an infinity comes out where arithmetic makes
one, and nothing warns of it.

`empty` and `copy` give arrays on the memory that the results lie on, which is used again from step to step.

Importing this holds NumPy's OpenBLAS to one thread; `threads` says why, and how to have it otherwise.
"""

import inspect
import os
from collections.abc import Callable
from functools import wraps

import numpy as np

from . import (
    checks,
    convolution,
    dense,
    frozen,
    memory,
    mlp,
    multihead,
    normalisation,
    optimisation,
    pointwise,
    reference,
    rows,
    threads,
)

_MODE = os.environ.get("MINIDIFF_KERNELS", "numba")
if _MODE not in ("numba", "reference"):
    raise ValueError(f"MINIDIFF_KERNELS must be 'numba' or 'reference', not {_MODE!r}")
if _MODE == "numba":
    threads.limit_blas(1)


def _plain(value):
    """The value; an array that Numba would take for another type (strided, read-only, a subclass) as a plain one."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.flags.carray:
        return value if type(value) is np.ndarray else value.view(np.ndarray)
    behind = frozen.memory_of(value)
    return memory.copy(value) if behind is None else behind


def _dispatch(compiled: Callable) -> Callable:
    """The public function: checked first, then compiled or as the reference has it."""
    name = compiled.__name__
    specification, check = getattr(reference, name), getattr(checks, name)
    signature = inspect.signature(specification)
    takes = [checks.taker(p.name, p.annotation) for p in signature.parameters.values()]

    @wraps(specification)
    def call(*args, **kwargs):
        if kwargs or len(args) != len(takes):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        args = [take(value) for take, value in zip(takes, args, strict=True)]
        if check(*args) == np.float64 or _MODE == "reference":
            with np.errstate(all="ignore"):
                return specification(*args)
        with threads.LAUNCH:
            threads.start()
            return compiled(*map(_plain, args))

    return call


freeze = frozen.freeze
empty = memory.empty
copy = memory.copy
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
add_rows = _dispatch(mlp.add_rows)
perceptron_backward = _dispatch(mlp.perceptron_backward)
perceptron = _dispatch(mlp.perceptron)
scatter_rows = _dispatch(rows.scatter_rows)
adam = _dispatch(optimisation.adam)
squared_norm = _dispatch(optimisation.squared_norm)
