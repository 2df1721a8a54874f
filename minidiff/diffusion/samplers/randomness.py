"""Noise that does not depend on the batch size: 3 samples drawn alone are the first 3 of 1000.

One stream for a whole batch would give sample i other numbers in a batch of another size, from the second
step on. One stream for each sample would be slow for small ones. So samples are taken in blocks, each with
a stream of its own. The length of a block depends on the size of a sample alone, and the last block always
draws its full length.

The streams come from one child of the caller's generator, so that other draws from that, before or after,
change nothing here, and draws here change nothing there.
"""

import math

import numpy as np
from numpy.typing import DTypeLike

BLOCK = 4096  # numbers: enough that a block costs its numbers and not its call


class NoiseSource:
    """Standard normal noise for a batch of the given shape (B, …), anew at each call, in float32 or float64.

    Spawns one child of `rng` when constructed. Raises TypeError if `rng` is no Generator or the dtype is another,
    ValueError for a shape without a batch.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"expected rng to be a numpy.random.Generator, got {type(rng).__name__}")
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"expected noise in float32 or float64, got {self.dtype}")
        self._type = np.float32 if self.dtype == np.float32 else np.float64
        if not self.shape:
            raise ValueError("expected a shape (B, …), a batch of samples, got ()")
        self._block = max(1, BLOCK // max(1, math.prod(self.shape[1:])))
        self._streams = rng.spawn(1)[0].spawn(math.ceil(self.shape[0] / self._block))

    def __call__(self) -> np.ndarray:
        """A fresh draw of the whole batch."""
        noise = np.empty(self.shape, self.dtype)
        for i, stream in enumerate(self._streams):
            block = noise[i * self._block : (i + 1) * self._block]
            block[...] = stream.standard_normal((self._block, *self.shape[1:]), self._type)[: len(block)]
        return noise


def initial_noise(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike = np.float32
) -> np.ndarray:
    """x_T ~ N(0, I) of the given shape (B, …), where a sampler begins (F6). Sample i does not depend on B."""
    return NoiseSource(rng, shape, dtype)()
