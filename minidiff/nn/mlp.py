"""The documents' network for points: hidden layers, each of which is told the time (ledger V10, S11)."""

from __future__ import annotations

import numpy as np

from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.nn.layers import Embedding, Linear, sinusoidal
from minidiff.nn.network import Network


class MLP(Network):
    """`depth` times h ← SiLU(linear(h) + time(t) [+ class(label)]), then linear: x (B, dim) → (B, dim).

    time: 'embedding', a learned vector for each t = 1…T and hidden layer; t must be an integer. Or
    'sinusoidal', sines and cosines of t and a linear layer: fewer parameters, and t may be any number.

    answers: how many numbers it gives for each coordinate; with 2 the result is (B, 2·dim).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        dim: int = 1,
        width: int = 128,
        depth: int = 3,
        T: int = 1000,
        time: str = "embedding",
        classes: int = 0,
        answers: int = 1,
    ) -> None:
        if time not in ("embedding", "sinusoidal"):
            raise ValueError(f"time must be 'embedding' or 'sinusoidal', got {time!r}")
        self.settings = dict(
            dim=dim, width=width, depth=depth, T=T, time=time, classes=classes, answers=answers
        )
        self.dim, self.width, self.T, self.time = dim, width, T, time
        self.classes, self.answers = classes, answers
        self.hidden = [Linear(dim if i == 0 else width, width, rng) for i in range(depth)]
        if time == "embedding":
            self.times = [Embedding(T, width, rng) for _ in range(depth)]
        else:
            self.times = [Linear(width, width, rng) for _ in range(depth)]
        if classes:
            self.labels = [Embedding(classes + 1, width, rng) for _ in range(depth)]
        self.last = Linear(width, answers * dim, rng)

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"this network takes x of shape (B, {self.dim}), got {x.shape}")
        tables, rows = self._told(t, x.dtype)
        if self.classes:
            tables.append([embedding.table for embedding in self.labels])
            rows.append(label)
        layers = [*self.hidden, self.last]
        weights, biases = [layer.w for layer in layers], [layer.b for layer in layers]
        return ag.perceptron(x, weights, biases, tables, index=np.array(rows))

    def _told(self, t: np.ndarray, dtype: np.dtype) -> tuple[list[list[Tensor]], list[np.ndarray]]:
        """The time as each layer hears it: a table a layer, and which row of it belongs to each t."""
        if self.time == "embedding":
            return [[embedding.table for embedding in self.times]], [self._row_of(t)]
        different, row = np.unique(t, return_inverse=True)  # in sampling all are equal
        waves = Tensor(sinusoidal(different, self.width).astype(dtype, copy=False))
        return [[linear(waves) for linear in self.times]], [row]

    def _row_of(self, t: np.ndarray) -> np.ndarray:
        """Row t − 1 of an embedding's table belongs to time t; there is none for time 0, clean data."""
        if t.dtype.kind not in "iu":
            raise ValueError(f"an embedding knows only the integer times 1…{self.T}; got t of {t.dtype}")
        row = t - 1
        if (
            row.size and row.astype(np.uint64).max() >= self.T
        ):  # what is negative becomes huge: one pass is enough
            raise ValueError(f"times run 1…{self.T}, got {t.min()}…{t.max()}")
        return row
