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
    'sinusoidal', sines and cosines of t and a linear map for each hidden layer: fewer parameters, and t may be any
    number. What the hidden layers hear lies side by side, one width after another.

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
            self.times = Embedding(T, depth * width, rng)
        else:  # the scale makes up for the fan-out, which is that of one layer
            self.times = Linear(width, depth * width, rng, scale=(1 + depth) / 2)
        if classes:
            self.labels = Embedding(classes + 1, depth * width, rng)
        self.last = Linear(width, answers * dim, rng)

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"this network takes x of shape (B, {self.dim}), got {x.shape}")
        tables, rows = self._told(t, x.dtype)
        if self.classes:
            tables.append(self.labels.table)
            rows.append(label)
        layers = [*self.hidden, self.last]
        weights, biases = [layer.w for layer in layers], [layer.b for layer in layers]
        try:
            return ag.perceptron(x, weights, biases, tables, index=np.array(rows))
        except IndexError:
            raise ValueError(f"times run 1…{self.T}, got {t.min()}…{t.max()}") from None

    def _told(self, t: np.ndarray, dtype: np.dtype) -> tuple[list[Tensor], list[np.ndarray]]:
        """The time as the layers hear it: a table, and which row of it belongs to each t."""
        if self.time == "embedding":
            return [self.times.table], [self._row_of(t)]
        different, row = np.unique(t, return_inverse=True)  # in sampling all are equal
        waves = Tensor(sinusoidal(different, self.width).astype(dtype, copy=False))
        return [self.times(waves)], [row]

    def _row_of(self, t: np.ndarray) -> np.ndarray:
        """Row t − 1 of an embedding's table belongs to time t; there is none for time 0, clean data."""
        if t.dtype.kind not in "iu":
            raise ValueError(f"an embedding knows only the integer times 1…{self.T}; got t of {t.dtype}")
        return t.astype(np.int64, copy=False) - 1
