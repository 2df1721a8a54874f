"""The optimiser in two passes over flat vectors, as few as possible since memory bandwidth limits both.

    for i in range(n):                              for i in range(n):
        total += gradient[i] ** 2                       m[i] += (1 - beta1) * (gradient[i] * scale - m[i])
                                                        v[i] += (1 - beta2) * ((gradient[i] * scale) ** 2 - v[i])
                                                        parameter[i] -= rate * m[i] / (sqrt(v[i] * correction) + eps)
                                                        ema[i] += (1 - ema_decay) * (parameter[i] - ema[i])
                                                        gradient[i] = 0

They are cut into blocks for the threads, and Adam's into one loop for each line of it, since LLVM does not vectorise a
loop over five arrays that may overlap.

The first pass is the norm of the gradient, which must be complete before any parameter changes. The second does all
the rest for each parameter: Adam, the exponential moving average, and the gradient set to zero for the next step.
"""

import numpy as np

from .jit import device, kernel
from .launch import ceil_div, launch

BLOCK = 16_384  # numbers in a partial sum; the order of the sums depends on their count alone
LANES = 64  # independent sums, so that they fill vector registers
CHUNK = 1024  # numbers that Adam processes at a time: five vectors of them fit into the L1 cache
NO_EMA = np.zeros(0, np.float32)


@device
def _adam_chunk(chunk, vectors, settings):
    """Short loops over numbers that stay in the L1 cache."""
    begin, end = chunk * CHUNK, (chunk + 1) * CHUNK
    all_parameters, all_gradients, all_m, all_v, all_ema = vectors
    parameter, gradient, ema = all_parameters[begin:end], all_gradients[begin:end], all_ema[begin:end]
    m, v = all_m[begin:end], all_v[begin:end]
    rate, correction, weight1, weight2, eps, scale, ema_weight = settings
    for i in range(m.size):
        m[i] += weight1 * (gradient[i] * scale - m[i])
    for i in range(m.size):
        g = gradient[i] * scale
        v[i] += weight2 * (g * g - v[i])
    for i in range(m.size):
        parameter[i] -= rate * m[i] / (np.sqrt(v[i] * correction) + eps)
    for i in range(ema.size):
        ema[i] += ema_weight * (parameter[i] - ema[i])
    gradient[:] = 0


@kernel
def _adam(parameter, gradient, m, v, ema, settings):
    launch(_adam_chunk, ceil_div(parameter.size, CHUNK), (parameter, gradient, m, v, ema), settings)


@device
def _squares(block, vector, partial_sums):
    """partial_sums[block] = Σ vectorᵢ² of the block in float64, LANES sums at a time."""
    begin, end = block * BLOCK, min((block + 1) * BLOCK, vector.size)
    sums = np.zeros(LANES)
    whole = begin + (end - begin) // LANES * LANES
    for i in range(begin, whole, LANES):
        row = vector[i : i + LANES]
        for lane in range(LANES):
            value = np.float64(row[lane])
            sums[lane] += value * value
    for i in range(whole, end):
        value = np.float64(vector[i])
        sums[0] += value * value
    partial_sums[block] = sums.sum()


@kernel
def squared_norm(vector):
    partial_sums = np.empty(ceil_div(vector.size, BLOCK))
    launch(_squares, partial_sums.size, vector, partial_sums)
    total = 0.0
    for partial_sum in partial_sums:
        total += partial_sum
    return total


def adam(
    parameter: np.ndarray,
    gradient: np.ndarray,
    moments: list[np.ndarray],
    ema: np.ndarray | None,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    scale: float,
    ema_decay: float,
) -> None:
    rate, correction = lr / (1 - betas[0] ** step), 1 / (1 - betas[1] ** step)
    settings = (rate, correction, 1 - betas[0], 1 - betas[1], eps, scale, 1 - ema_decay)
    ema = NO_EMA if ema is None else ema
    _adam(parameter, gradient, *moments, ema, tuple(map(np.float32, settings)))
