"""What a source of data has: arrays as they are stored, and what it says of them."""

from dataclasses import dataclass

import numpy as np

BYTES = (0.0, 255.0)  # the limits of images whose levels are bytes


@dataclass(frozen=True, eq=False)
class Stored:
    """Samples (N, …) and labels (N,), and others of the same kind that the source has for measuring.

    limits, class_names: as of `from_raw`. left_out: in words, what else the source has, which is not taken.
    key: by which `datasets.cache` recognises it, "" where it is not to be kept there.
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    held_out: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    limits: tuple[float, float] | None = None
    class_names: tuple[str, ...] = ()
    left_out: str = ""
    key: str = ""
