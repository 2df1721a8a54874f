"""Samples kept as they are stored, and converted to the network's range when they are read."""

import hashlib
import math
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from .units import Units

BLOCK_ENTRIES = 1 << 23  # of what is converted or summed at a time: 64 MB in float64

SMALL = 1 << 24  # bytes


class Samples:
    """An array-like of samples (N, …) in the network's range, float32, which takes the memory of what is stored.

    `samples[index]` converts the samples at `index`, anything that indexes the first axis of an array;
    `np.asarray(samples)` converts all.

    stored: the samples in their own units, of any real dtype, in memory or mapped from a file. They are not copied,
    so they must not change. rows: the indices (N,) of those that are meant, in this order; None: all.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, stored: np.ndarray, units: Units, rows: np.ndarray | None = None) -> None:
        self.stored, self.units, self.rows = stored, units, rows
        self.shape: tuple[int, ...] = (len(stored) if rows is None else len(rows), *stored.shape[1:])
        self.ndim = stored.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, tuple):
            chosen: np.ndarray = self[:][index]
            return chosen
        return self.units.from_units(self._stored_at(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        x: np.ndarray = self[:].astype(dtype or self.dtype, copy=False)
        return x

    def take(self, index: np.ndarray) -> "Samples":
        """Those at `index` (M,), integers or (N,) bools, as `Samples` that share what is stored."""
        rows = np.arange(len(self)) if self.rows is None else self.rows
        return Samples(self.stored, self.units, rows[index])

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of these samples as they are stored: their dtype, shape and bytes."""
        digest = hashlib.sha256(f"{self.stored.dtype.str} {self.shape}".encode())
        for block in blocks(self.shape):
            digest.update(np.ascontiguousarray(self._stored_at(block)).data)
        return digest.hexdigest()

    def _stored_at(self, index: Any) -> np.ndarray:
        stored: np.ndarray = self.stored[index if self.rows is None else self.rows[index]]
        return stored


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis of an array, whose parts have about `BLOCK_ENTRIES` entries."""
    step = max(1, BLOCK_ENTRIES // math.prod(shape[1:]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def small_as_array(x: np.ndarray | Samples) -> np.ndarray | Samples:
    """All samples converted, where they take at most 16 MB: they are read faster then."""
    return np.asarray(x) if 4 * math.prod(x.shape) <= SMALL else x


def checksum(x: np.ndarray | Samples) -> str:
    """The checksum of `Samples`, or of an array as of samples in the network's range."""
    return (x if isinstance(x, Samples) else Samples(x, Units(0.0, 1.0))).checksum


def checksum_0_1(x: np.ndarray | Samples) -> int:
    """What the checkpoints of version 0.1 have for a checksum: the CRC-32 of all samples in the network's range."""
    crc = 0
    for block in blocks(x.shape):
        crc = zlib.crc32(np.ascontiguousarray(x[block]).data, crc)
    return crc
