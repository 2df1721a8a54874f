"""The optimiser in two passes over flat vectors, as few as possible since memory bandwidth limits both.

The first pass is the norm of the gradient, which must be complete before any parameter changes. The second does all
the rest for each parameter: Adam, the exponential moving average, and the gradient set to zero for the next step.
"""

import numpy as np

from .jit import device, kernel
from .launch import launch

BLOCK = 16_384  # numbers in a partial sum; the order of the sums depends on their count alone
LANES = 64  # independent sums, so that they fill vector registers
CHUNK = 1024  # numbers that Adam processes at a time: five vectors of them fit into the L1 cache
NO_EMA = np.zeros(0, np.float32)


@device
def _adam_chunk(
    chunk, all_parameters, all_gradients, all_m, all_v, all_ema,
    rate, correction, weight1, weight2, eps, scale, ema_weight,
):  # fmt: skip
    """Short loops over numbers that stay in the L1 cache: LLVM would not vectorise one loop over five arrays."""
    begin, end = chunk * CHUNK, (chunk + 1) * CHUNK
    parameter, gradient, ema = all_parameters[begin:end], all_gradients[begin:end], all_ema[begin:end]
    m, v = all_m[begin:end], all_v[begin:end]
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
def _adam(parameter, gradient, m, v, ema, rate, correction, weight1, weight2, eps, scale, ema_weight):
    chunks = (parameter.size + CHUNK - 1) // CHUNK
    launch(
        _adam_chunk, chunks, parameter, gradient, m, v, ema,
        rate, correction, weight1, weight2, eps, scale, ema_weight,
    )  # fmt: skip


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
def _squared_norm(vector):
    blocks = (vector.size + BLOCK - 1) // BLOCK
    partial_sums = np.empty(blocks)
    launch(_squares, blocks, vector, partial_sums)
    total = 0.0
    for block in range(blocks):
        total += partial_sums[block]
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
    settings = map(np.float32, (rate, correction, 1 - betas[0], 1 - betas[1], eps, scale, 1 - ema_decay))
    ema = NO_EMA if ema is None else ema
    _adam(parameter, gradient, *moments, ema, *settings)


def squared_norm(vector: np.ndarray) -> float:
    return _squared_norm(vector)
