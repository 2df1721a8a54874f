"""A random generator whose normal draws are unit impulses: with it one run of a sampler shows how it depends on each.

`oracles.outcome_of` runs a sampler on it (EQUATIONS.md O3).
"""

import math
from typing import Any

import numpy as np


class Impulses(np.random.Generator):
    """Noise for `outcome_of`: the j-th number drawn is 1 for samples 1 + D and 2 + D + j, and 0 for all others.

    Streams spawned together hold one block of samples each, as in `NoiseSource`; their k-th draws count as one. A run
    of one sample records in `columns` the indices j of each draw; the run of the whole batch looks them up.
    """

    def __init__(self, dim: int, batch: int, columns: dict[tuple[int, ...], range]) -> None:
        super().__init__(np.random.PCG64(0))  # never drawn from
        self.dim, self.batch, self.columns = dim, batch, columns
        self.key: tuple[int, ...] = ()  # the calls of spawn, by number, that lead to this stream
        self.block, self.blocks, self.draws, self.spawned = 0, 1, 0, 0

    def __getattribute__(self, name: str) -> Any:
        if name in _UNSUPPORTED:
            raise ValueError(
                f"outcome_of cannot follow rng.{name}: it follows normal noise, drawn by rng.standard_normal, "
                "rng.normal or NoiseSource"
            )
        return super().__getattribute__(name)

    def spawn(self, n_children: int) -> list[np.random.Generator]:
        """The streams of n blocks."""
        streams = [Impulses(self.dim, self.batch, self.columns) for _ in range(n_children)]
        for i, stream in enumerate(streams):
            stream.key = (*self.key, self.spawned)
            stream.block, stream.blocks = self.block * n_children + i, self.blocks * n_children
        self.spawned += 1
        return [*streams]

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """The next draw, (samples, …): of all samples, or of those in this block."""
        shape = np.shape(out) if size is None else tuple(np.atleast_1d(size).tolist())
        rows, count = (shape[0], math.prod(shape[1:])) if shape else (0, 1)
        if rows * self.blocks < self.batch or (self.key == () and rows != self.batch):
            raise ValueError(
                "outcome_of runs a batch and needs noise with a row for each sample: expected a draw of shape "
                f"({self.batch}, …), such as x.shape, got {shape}"
            )
        sample = self.block * rows + np.arange(rows)
        column = sample - (2 + self.dim + self._first_column(count))
        noise = (column[:, None] == np.arange(count)).astype(dtype)
        noise[sample == 1 + self.dim] = 1
        noise[sample >= self.batch] = np.nan  # the rest of the last block, which belongs to no sample
        if out is None:
            return noise.reshape(shape)
        out[...] = noise.reshape(shape)
        return out

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """loc + scale · the next draw."""
        if np.any(np.asarray(scale) < 0):
            raise ValueError("scale < 0")
        shape = np.broadcast_shapes(np.shape(loc), np.shape(scale)) if size is None else size
        return loc + scale * self.standard_normal(shape)

    def _first_column(self, count: int) -> int:
        """The index j of the first of the next `count` numbers drawn."""
        key = (*self.key, self.draws)
        self.draws += 1
        if self.batch == 1 and key not in self.columns:
            end = next(reversed(self.columns.values())).stop if self.columns else 0
            self.columns[key] = range(end, end + count)
        if key not in self.columns or len(self.columns[key]) != count:
            raise ValueError(
                "outcome_of expects the same draws for any number of samples: this sampler draws others for "
                f"{self.batch} than for one"
            )
        return self.columns[key].start


_UNSUPPORTED = {name for name in dir(np.random.Generator) if name[0] != "_"} - vars(Impulses).keys()
