"""The linear layer as an implicit GEMM: a 1×1 convolution, whose images are BLOCK rows of x.

for n in range(N):
    for o in range(O):
        out[n, o] = b[o] + sum(x[n, i] * w[i, o] for i in range(I))
"""

from functools import lru_cache

import numpy as np

from . import bf16, memory
from .implicit_gemm import BLOCK, NO_BIAS, Patches, product, transposed_product
from .microkernel import FLOAT


@lru_cache(maxsize=256)
def _table(width: int, dtype: np.dtype) -> tuple[int, np.ndarray, np.ndarray]:
    """What follows the images in `Patches`: BLOCK rows of this width are an image, and each of them a patch."""
    offsets = np.arange(BLOCK, dtype=np.int64)[None, :] * (width * FLOAT)
    return BLOCK * width * FLOAT, np.zeros(width, dtype), offsets


def _rows(x: np.ndarray) -> Patches:
    return x.reshape(-1), *_table(x.shape[1], x.dtype)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    rows = _rows(bf16.to_pairs(x) if bf16.applies(w) else x)
    return product(rows, w, b, memory.empty((len(x), w.shape[1])))


def linear_backward_input(g: np.ndarray, w: np.ndarray) -> np.ndarray:
    return product(_rows(g), w, NO_BIAS, memory.empty((len(g), w.shape[0])), transposed=True)


def linear_backward_weight(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return transposed_product(_rows(x), g, (x.shape[1], g.shape[1]))
