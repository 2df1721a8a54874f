"""Elementwise kernels: the sum, and SiLU without a norm before it, forward and backward, over flat arrays."""

import numpy as np

from . import memory, pool
from .jit import device, kernel
from .launch import launch
from .math32 import sigmoid

SERIAL_BELOW = 16_384  # numbers; fewer take less time than waking the other threads


@device
def _chunk(worker, workers, array):
    """The part of an array that one worker computes."""
    return array[array.size * worker // workers : array.size * (worker + 1) // workers]


@device
def _add_worker(worker, workers, all_a, all_b, all_out):
    a, b, out = (
        _chunk(worker, workers, all_a),
        _chunk(worker, workers, all_b),
        _chunk(worker, workers, all_out),
    )
    for i in range(out.size):
        out[i] = a[i] + b[i]


@kernel
def _add(a, b, out, threads):
    launch(_add_worker, threads, threads, a, b, out)


@device
def _silu_worker(worker, workers, all_x, all_y):
    x, y = _chunk(worker, workers, all_x), _chunk(worker, workers, all_y)
    for i in range(y.size):
        y[i] = x[i] * sigmoid(x[i])


@kernel
def _silu(x, y, threads):
    launch(_silu_worker, threads, threads, x, y)


@device
def _silu_backward_worker(worker, workers, all_g, all_x, all_dx):
    g, x, dx = _chunk(worker, workers, all_g), _chunk(worker, workers, all_x), _chunk(worker, workers, all_dx)
    for i in range(dx.size):
        s = sigmoid(x[i])
        dx[i] = g[i] * s * (np.float32(1) + x[i] * (np.float32(1) - s))


@kernel
def _silu_backward(g, x, dx, threads):
    launch(_silu_backward_worker, threads, threads, g, x, dx)


def _threads(size: int) -> int:
    return 1 if size < SERIAL_BELOW else pool.size()


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = memory.empty(a.shape)
    if a.size < SERIAL_BELOW:
        return np.add(a, b, out=out)
    _add(a.reshape(-1), b.reshape(-1), out.reshape(-1), _threads(a.size))
    return out


def silu(x: np.ndarray) -> np.ndarray:
    y = memory.empty(x.shape)
    _silu(x.reshape(-1), y.reshape(-1), _threads(x.size))
    return y


def silu_backward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    dx = memory.empty(x.shape)
    _silu_backward(g.reshape(-1), x.reshape(-1), dx.reshape(-1), _threads(x.size))
    return dx
