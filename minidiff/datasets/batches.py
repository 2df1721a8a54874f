"""The order in which a training run visits its data."""

import numpy as np


class Batches:
    """Batches of indices 0…n − 1, in a new random order each epoch; a batch may span two or more epochs.

    n, batch: the size of the data set and of a batch, both at least 1, else ValueError. `order` (n,) is the order of
    the current epoch and `index` counts how many of it have been drawn: with `rng`, all that a checkpoint must keep.
    """

    def __init__(self, n: int, batch: int, rng: np.random.Generator) -> None:
        if n < 1:
            raise ValueError("expected at least one item of data to train on, got none")
        if batch < 1:
            raise ValueError(f"expected a batch of at least 1, got {batch}")
        self.n, self.batch, self.rng = n, batch, rng
        self.order, self.index = rng.permutation(n), 0

    def draw(self) -> np.ndarray:
        """The next batch: (batch,) int64."""
        drawn = self.order[self.index : self.index + self.batch]
        self.index += len(drawn)
        while len(drawn) < self.batch:
            self.order, self.index = self.rng.permutation(self.n), 0
            more = self.order[: self.batch - len(drawn)]
            self.index = len(more)
            drawn = np.concatenate([drawn, more])
        return drawn
