"""A multilayer perceptron for points, each hidden layer conditioned on the time (EQUATIONS.md V10, S11)."""

from __future__ import annotations

import numpy as np

from minidiff import autograd as ag
from minidiff import memory
from minidiff.autograd import Tensor
from minidiff.nn import arguments
from minidiff.nn.layers import BYTES_A_PARAMETER, Embedding, Linear, sinusoidal
from minidiff.nn.network import Network


class MLP(Network):
    """`depth` times h ← SiLU(linear(h) + time(t) [+ class(label)]), then linear: x (B, dim) → (B, dim).

    time: 'embedding', a learned vector for each t = 1…T and hidden layer; t must be an integer. Or
    'sinusoidal', sines and cosines of t and a linear map for each hidden layer: fewer parameters, and t may be any
    number. The embeddings of all hidden layers lie side by side in one row, one width after another.
    classes: 0, or how many labels it is conditioned on. learned_variance: the output is then (B, 2·dim).
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
        learned_variance: bool = False,
    ) -> None:
        if time not in ("embedding", "sinusoidal"):
            raise ValueError(f"time: expected 'embedding' or 'sinusoidal', got {time!r:.80}")
        waves = time == "sinusoidal"  # half of the width are sines, half cosines
        self.settings = dict(
            dim=arguments.integer("dim", dim),
            width=arguments.integer("width", width, at_least=4 if waves else 1, even=waves),
            depth=arguments.integer("depth", depth),
            T=arguments.integer("T", T),
            time=time,
            classes=arguments.integer("classes", classes, at_least=0),
            learned_variance=arguments.flag("learned_variance", learned_variance),
        )
        arguments.generator(rng)
        self.dim, self.width, self.T, self.time = dim, width, T, time
        self.classes, self.learned_variance = classes, learned_variance
        memory.require(depth * width**2, BYTES_A_PARAMETER, "parameters of hidden layers")
        self.hidden = [Linear(rng, dim if i == 0 else width, width) for i in range(depth)]
        self.times: Embedding | Linear
        if time == "embedding":
            self.times = Embedding(rng, T, depth * width)
        else:  # the scale makes up for the fan-out, which is that of one layer
            self.times = Linear(rng, width, depth * width, scale=(1 + depth) / 2)
        if classes:
            self.labels = Embedding(rng, classes + 1, depth * width)
        self.last = Linear(rng, width, 2 * dim if learned_variance else dim)

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"this network takes x of shape (B, {self.dim}), got {x.shape}")
        table, row = self._time_embedding(t, x.dtype)
        tables, rows = [table], [row]
        if label is not None:
            tables.append(self.labels.table)
            rows.append(label)
        layers = [*self.hidden, self.last]
        weights, biases = [layer.w for layer in layers], [layer.b for layer in layers]
        try:
            return ag.perceptron(x, weights, biases, tables, index=np.array(rows))
        except IndexError:
            raise ValueError(f"times run 1…{self.T}, got {t.min()}…{t.max()}") from None

    def activations(self) -> int:
        return len(self.hidden) * self.width

    def _time_embedding(self, t: np.ndarray, dtype: np.dtype) -> tuple[Tensor, np.ndarray]:
        """A table of time embeddings, and which of its rows belongs to each t."""
        if isinstance(self.times, Embedding):
            return self.times.table, self._row_of(t)
        distinct, row = np.unique(t, return_inverse=True)  # in sampling all are equal
        waves = Tensor(sinusoidal(distinct, self.width).astype(dtype, copy=False))
        return self.times(waves), row

    def _row_of(self, t: np.ndarray) -> np.ndarray:
        """Row t − 1 of an embedding's table belongs to time t; time 0, clean data, has none."""
        if t.dtype.kind not in "iu":
            raise ValueError(f"an embedding has only the integer times 1…{self.T}; got t of {t.dtype}")
        return t.astype(np.int64, copy=False) - 1
