"""What happens to all parameters at once: one pass over flat vectors each."""

import numpy as np
from numba import prange

from .jit import device, kernel

BLOCK = 16_384  # numbers that one job sums; their count is all that decides the order of the sums
SERIAL_BELOW = 32_768  # numbers; fewer are done before the other threads have woken


@device
def _adam_one(i, parameter, gradient, first, second, rate, correction, share1, share2, eps, scale):
    g = gradient[i] * scale
    m = first[i] + share1 * (g - first[i])
    v = second[i] + share2 * (g * g - second[i])
    first[i], second[i] = m, v
    parameter[i] -= rate * m / (np.sqrt(v * correction) + eps)


@kernel
def _adam(parameter, gradient, first, second, rate, correction, share1, share2, eps, scale):
    if parameter.size < SERIAL_BELOW:
        for i in range(parameter.size):
            _adam_one(i, parameter, gradient, first, second, rate, correction, share1, share2, eps, scale)
    else:
        for i in prange(parameter.size):
            _adam_one(i, parameter, gradient, first, second, rate, correction, share1, share2, eps, scale)


@kernel
def _ema(average, parameter, share):
    if average.size < SERIAL_BELOW:
        for i in range(average.size):
            average[i] += share * (parameter[i] - average[i])
    else:
        for i in prange(average.size):
            average[i] += share * (parameter[i] - average[i])


@kernel
def _squared_norm(vector):
    blocks = (vector.size + BLOCK - 1) // BLOCK
    parts = np.empty(blocks)
    for block in prange(blocks):
        total, first = 0.0, np.int64(block) * BLOCK
        for i in range(first, min(first + BLOCK, vector.size)):
            value = np.float64(vector[i])
            total += value * value
        parts[block] = total
    total = 0.0
    for block in range(blocks):
        total += parts[block]
    return total


def adam(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    scale: float,
) -> None:
    rate, correction = lr / (1 - beta1**step), 1 / (1 - beta2**step)
    settings = (np.float32(value) for value in (rate, correction, 1 - beta1, 1 - beta2, eps, scale))
    _adam(parameter, gradient, first, second, *settings)


def ema(average: np.ndarray, parameter: np.ndarray, decay: float) -> None:
    _ema(average, parameter, np.float32(1 - decay))


def squared_norm(vector: np.ndarray) -> float:
    return _squared_norm(vector)
