"""bfloat16, the upper half of a float32. NumPy does not have it, so arrays of it are read as a dtype of our own."""

import numpy as np

BFLOAT16 = np.dtype([("bfloat16", "<u2")])


def widened(array: np.ndarray) -> np.ndarray:
    """The array; of BFLOAT16 a copy as float32, which is exact."""
    if array.dtype != BFLOAT16:
        return array
    return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
