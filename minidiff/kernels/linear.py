"""The linear layer as an implicit GEMM: a 1×1 convolution, whose images are BLOCK rows of x."""

from functools import lru_cache

import numpy as np

from . import memory
from .implicit_gemm import BLOCK, NO_BIAS, product, transposed_product
from .microkernel import FLOAT


@lru_cache(maxsize=256)
def _rows(width: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The size of BLOCK rows, the offset of each row in bytes, and the zeros that `implicit_gemm` requires."""
    offsets = np.arange(BLOCK, dtype=np.int64)[None, :] * (width * FLOAT)
    return BLOCK * width, offsets, np.zeros(width, np.float32)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return product(x, *_rows(w.shape[0]), w, b, memory.empty((len(x), w.shape[1])))


def linear_backward_input(g: np.ndarray, w: np.ndarray) -> np.ndarray:
    out = memory.empty((len(g), w.shape[0]))
    return product(g, *_rows(w.shape[1]), w, NO_BIAS, out, transposed=True)


def linear_backward_weight(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return transposed_product(x, *_rows(x.shape[1]), g, (x.shape[1], g.shape[1]))
