"""What happens to all parameters at once: two passes over flat vectors, since a network's are read from far away.

The first is the gradient's norm, which has to be whole before anything is changed. The second does all the rest to
a number while it is at hand: Adam, the moving average, and the gradient made ready for the next sum.
"""

import numpy as np

from .jit import device, kernel
from .launch import launch

BLOCK = 16_384  # numbers that one job sums; their count is all that decides the order of the sums
LANES = 64  # sums that grow side by side, so that they fill vectors
CHUNK = 1024  # numbers that Adam takes at a time: five vectors of them fit into the L1 cache
NO_AVERAGE = np.zeros(0, np.float32)


@device
def _adam_chunk(
    chunk, parameters, gradients, firsts, seconds, averages,
    rate, correction, share1, share2, eps, scale, share,
):  # fmt: skip
    """Short loops over numbers that stay in the L1 cache: one loop over five arrays would not become vectors."""
    begin, end = chunk * CHUNK, (chunk + 1) * CHUNK
    parameter, gradient, average = parameters[begin:end], gradients[begin:end], averages[begin:end]
    first, second = firsts[begin:end], seconds[begin:end]
    for i in range(first.size):
        first[i] += share1 * (gradient[i] * scale - first[i])
    for i in range(first.size):
        g = gradient[i] * scale
        second[i] += share2 * (g * g - second[i])
    for i in range(first.size):
        parameter[i] -= rate * first[i] / (np.sqrt(second[i] * correction) + eps)
    for i in range(average.size):
        average[i] += share * (parameter[i] - average[i])
    gradient[:] = 0


@kernel
def _adam(parameter, gradient, first, second, average, rate, correction, share1, share2, eps, scale, share):
    chunks = (parameter.size + CHUNK - 1) // CHUNK
    launch(
        _adam_chunk, chunks, parameter, gradient, first, second, average,
        rate, correction, share1, share2, eps, scale, share,
    )  # fmt: skip


@device
def _squares(block, vector, parts):
    """parts[block] = Σ vectorᵢ² of the block in float64, LANES sums at a time."""
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
    parts[block] = sums.sum()


@kernel
def _squared_norm(vector):
    blocks = (vector.size + BLOCK - 1) // BLOCK
    parts = np.empty(blocks)
    launch(_squares, blocks, vector, parts)
    total = 0.0
    for block in range(blocks):
        total += parts[block]
    return total


def adam(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    average: np.ndarray | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    scale: float,
    decay: float,
) -> None:
    rate, correction = lr / (1 - beta1**step), 1 / (1 - beta2**step)
    settings = map(np.float32, (rate, correction, 1 - beta1, 1 - beta2, eps, scale, 1 - decay))
    average = NO_AVERAGE if average is None else average
    _adam(parameter, gradient, first, second, average, *settings)


def squared_norm(vector: np.ndarray) -> float:
    return _squared_norm(vector)
