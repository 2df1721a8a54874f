"""Elementwise kernels: the sum, and SiLU without a norm before it, forward and backward, over flat arrays.

    for i in range(n):
        y[i] = x[i] / (1 + exp(-x[i]))

The loops are as plain as this. They run on all threads, a range of the numbers on each, and LLVM vectorises them, since
`math32.sigmoid` is arithmetic alone: a call of the C library's exp for every number would prevent it.
"""

import numpy as np

from . import memory
from .jit import device, kernel
from .launch import launch_ranges, workers_for
from .math32 import sigmoid

SERIAL_BELOW = 16_384  # numbers; fewer take less time than waking the other threads


@device
def _add_range(worker, begin, end, all_a, all_b, all_out):
    a, b, out = all_a[begin:end], all_b[begin:end], all_out[begin:end]
    for i in range(out.size):
        out[i] = a[i] + b[i]


@kernel
def _add(a, b, out, workers):
    launch_ranges(_add_range, out.size, workers, a, b, out)


@device
def _silu_range(worker, begin, end, all_x, all_y):
    x, y = all_x[begin:end], all_y[begin:end]
    for i in range(y.size):
        y[i] = x[i] * sigmoid(x[i])


@kernel
def _silu(x, y, workers):
    launch_ranges(_silu_range, y.size, workers, x, y)


@device
def _silu_backward_range(worker, begin, end, all_g, all_x, all_dx):
    g, x, dx = all_g[begin:end], all_x[begin:end], all_dx[begin:end]
    for i in range(dx.size):
        s = sigmoid(x[i])
        dx[i] = g[i] * s * (np.float32(1) + x[i] * (np.float32(1) - s))


@kernel
def _silu_backward(g, x, dx, workers):
    launch_ranges(_silu_backward_range, dx.size, workers, g, x, dx)


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = memory.empty(a.shape)
    if a.size < SERIAL_BELOW:
        return np.add(a, b, out=out)
    _add(a.reshape(-1), b.reshape(-1), out.reshape(-1), workers_for(a.size, SERIAL_BELOW))
    return out


def silu(x: np.ndarray) -> np.ndarray:
    y = memory.empty(x.shape)
    _silu(x.reshape(-1), y.reshape(-1), workers_for(x.size, SERIAL_BELOW))
    return y


def silu_backward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    dx = memory.empty(x.shape)
    _silu_backward(g.reshape(-1), x.reshape(-1), dx.reshape(-1), workers_for(x.size, SERIAL_BELOW))
    return dx
