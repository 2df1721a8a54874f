"""What every network shares: it takes arrays or tensors, the times and, if it knows classes, the labels."""

from __future__ import annotations

import numpy as np

from minidiff.autograd import Tensor, no_grad
from minidiff.nn.module import Module


class Network(Module):
    """net(x, t, label=None) → the shape of x, its last axis `answers` times as long.

    x (B, …): an array gives an array, with nothing recorded and no dropout; a Tensor gives a Tensor.
    t (B,): times 1…T. label (B,): integers 0…classes − 1, and `classes` itself for "no class", which is also
    what leaving it out says of all. rng: draws the dropout of a training step; without it there is none.
    """

    settings: dict[str, object]  # the arguments that build it again
    classes: int
    answers: int
    last: Module  # the layer that gives the output

    def __call__(
        self,
        x: np.ndarray | Tensor,
        t: np.ndarray,
        label: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray | Tensor:
        t = np.asarray(t)
        if t.shape != (len(x),):
            raise ValueError(f"expected one time for each of {len(x)} inputs, got t of shape {t.shape}")
        label = self._complete(label, len(x))
        if isinstance(x, Tensor):
            return self.forward(x, t, label, rng)
        dtype = self.last.w.dtype
        with no_grad():
            out = self.forward(Tensor(x.astype(dtype, copy=False)), t, label, None).data
        return out if x.dtype == dtype else out.astype(np.result_type(x.dtype, np.float32), copy=False)

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        """The network itself, which each kind writes. label is None only where there are no classes."""
        raise NotImplementedError

    def _complete(self, label: np.ndarray | None, batch: int) -> np.ndarray | None:
        if not self.classes:
            if label is not None:
                raise ValueError("this network was built without classes and takes no label")
            return None
        if label is None:
            return np.full(batch, self.classes)
        label = np.asarray(label)
        if label.shape != (batch,):
            raise ValueError(f"expected one label for each of {batch} inputs, got shape {label.shape}")
        fits = label.dtype.kind in "iu" and np.all((label >= 0) & (label <= self.classes))
        if not fits:
            raise ValueError(
                f"labels are integers 0…{self.classes - 1}, or {self.classes} for no class; got {label!r:.80}"
            )
        return label
