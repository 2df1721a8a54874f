"""Kernels: arrays in, arrays out; `reference` specifies what each computes.

float32 goes to the compiled kernel and float64 to the reference, as float32 does too with MINIDIFF_KERNELS=reference or
NUMBA_DISABLE_JIT=1 in the environment. Arrays may have any memory layout; only what is changed in place (by `adam`,
`add_rows` and `perceptron_backward`) must be contiguous. NaN and infinity propagate as in IEEE arithmetic, without
warnings.

`match` checks the shapes of other functions' arguments as those of kernels are checked, in the notation of `shapes`.

`empty` and `copy` return arrays from the allocator of the kernels' results, which reuses memory from step to step;
`release` gives that memory back.

Importing this package limits NumPy's OpenBLAS to one thread; see `threads` for the reason, and for how to undo it.
"""

import inspect
import os
from collections.abc import Callable
from functools import wraps

import numpy as np
from numba import config

from . import (
    bf16,
    checks,
    convolution,
    frozen,
    fused_mlp,
    memory,
    normalisation,
    optimisation,
    pointwise,
    reference,
    rows,
    shapes,
    threads,
)

# By name: as attributes of the package, `attention` and `linear` are the public functions below, not the modules.
from .attention import attention as _attention
from .attention import attention_backward as _attention_backward
from .linear import linear as _linear
from .linear import linear_backward_input as _linear_backward_input
from .linear import linear_backward_weight as _linear_backward_weight

_MODE = os.environ.get("MINIDIFF_KERNELS", "numba")
if _MODE not in ("numba", "reference"):
    raise ValueError(f"MINIDIFF_KERNELS must be 'numba' or 'reference', not {_MODE!r}")
if config.DISABLE_JIT:  # NUMBA_DISABLE_JIT=1
    _MODE = "reference"
if _MODE == "numba":
    threads.limit_blas(1)


def _plain(value):
    """The value; an array of another Numba type (strided, read-only, a subclass) as a plain contiguous one."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.flags.carray:
        return value if type(value) is np.ndarray else value.view(np.ndarray)
    plain = frozen.memory_of(value)
    return memory.copy(value) if plain is None else plain


def _dispatch(compiled: Callable) -> Callable:
    """The public function: checks its arguments, then calls the compiled kernel or the reference."""
    name = compiled.__name__
    specification = getattr(reference, name)
    signature, check = inspect.signature(specification), checks.checker(specification)
    kinds = [p.annotation for p in signature.parameters.values()]
    converters = [checks.converter(p.name, p.annotation) for p in signature.parameters.values()]

    @wraps(specification)
    def call(*args, **kwargs):
        try:
            if kwargs or len(args) != len(kinds):
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                args = bound.args
            # Most arguments are of their kind already: a call for each would take as long as all the other checks.
            args = [v if type(v) is kinds[i] else converters[i](v) for i, v in enumerate(args)]
            is_float64 = check(args)
        except (TypeError, ValueError, IndexError) as error:
            raise type(error)(f"{name}: {error}") from None
        if is_float64 or _MODE == "reference":
            with np.errstate(all="ignore"):
                return specification(*args)
        with threads.LAUNCH:
            threads.start()
            return compiled(*map(_plain, args))

    return call


def require(precision: str) -> None:
    """Raises ValueError for a precision, other than "float32" and "bf16", that is unknown or is not to be had here."""
    if precision not in ("float32", "bf16"):
        raise ValueError(f"precision: expected 'float32' or 'bf16', got {precision!r}")
    if precision == "bf16" and _MODE == "reference":
        raise ValueError(
            "precision bf16 needs the compiled kernels, and these are the reference: use float32"
        )
    if precision == "bf16" and not bf16.AVAILABLE:
        raise ValueError(
            "precision bf16 needs a processor with AVX-512 BF16, which this one has not: use float32"
        )


match = shapes.match
freeze = frozen.freeze
empty = memory.empty
copy = memory.copy
release = memory.release
linear = _dispatch(_linear)
linear_backward_input = _dispatch(_linear_backward_input)
linear_backward_weight = _dispatch(_linear_backward_weight)
sum_rows = _dispatch(rows.sum_rows)
conv2d = _dispatch(convolution.conv2d)
conv2d_backward_input = _dispatch(convolution.conv2d_backward_input)
conv2d_backward_weight = _dispatch(convolution.conv2d_backward_weight)
group_norm = _dispatch(normalisation.group_norm)
group_norm_backward = _dispatch(normalisation.group_norm_backward)
add = _dispatch(pointwise.add)
silu = _dispatch(pointwise.silu)
silu_backward = _dispatch(pointwise.silu_backward)
attention = _dispatch(_attention)
attention_backward = _dispatch(_attention_backward)
add_rows = _dispatch(rows.add_rows)
perceptron_backward = _dispatch(fused_mlp.perceptron_backward)
perceptron = _dispatch(fused_mlp.perceptron)
scatter_rows = _dispatch(rows.scatter_rows)
adam = _dispatch(optimisation.adam)
squared_norm = _dispatch(optimisation.squared_norm)
