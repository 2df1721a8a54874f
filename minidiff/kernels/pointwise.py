"""Sums, and SiLU by itself, forward and backward, over flat arrays."""

import numpy as np
from numba import prange

from . import memory
from .jit import kernel
from .math32 import sigmoid

SERIAL_BELOW = 16_384  # numbers; fewer are done before the other threads have woken


@kernel
def _add(a, b, out):
    for i in prange(out.size):
        out[i] = a[i] + b[i]


@kernel
def _silu(x, y):
    if x.size < SERIAL_BELOW:
        for i in range(x.size):
            y[i] = x[i] * sigmoid(x[i])
    else:
        for i in prange(x.size):
            y[i] = x[i] * sigmoid(x[i])


@kernel
def _silu_backward(g, x, dx):
    if x.size < SERIAL_BELOW:
        for i in range(x.size):
            s = sigmoid(x[i])
            dx[i] = g[i] * s * (np.float32(1) + x[i] * (np.float32(1) - s))
    else:
        for i in prange(x.size):
            s = sigmoid(x[i])
            dx[i] = g[i] * s * (np.float32(1) + x[i] * (np.float32(1) - s))


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = memory.empty(a.shape)
    if a.size < SERIAL_BELOW:
        return np.add(a, b, out=out)
    _add(a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


def silu(x: np.ndarray) -> np.ndarray:
    y = memory.empty(x.shape)
    _silu(x.reshape(-1), y.reshape(-1))
    return y


def silu_backward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    dx = memory.empty(x.shape)
    _silu_backward(g.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx
