"""The order in which a training run visits its data."""

import numpy as np


class Batches:
    """The numbers 0…n − 1 in a fresh random order each epoch, `batch` at a time; a batch may span two epochs."""

    def __init__(self, n: int, batch: int, rng: np.random.Generator) -> None:
        if n < 1:
            raise ValueError("expected at least one item of data to train on, got none")
        self.n, self.batch, self.rng = n, batch, rng
        self.order, self.place = rng.permutation(n), 0

    def draw(self) -> np.ndarray:
        """The next `batch` of them."""
        drawn = self.order[self.place : self.place + self.batch]
        self.place += len(drawn)
        while len(drawn) < self.batch:
            self.order, self.place = self.rng.permutation(self.n), 0
            more = self.order[: self.batch - len(drawn)]
            self.place = len(more)
            drawn = np.concatenate([drawn, more])
        return drawn
