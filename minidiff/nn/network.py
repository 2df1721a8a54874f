"""What every network shares: it takes arrays or tensors, the times and, if it is conditioned on classes, the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import numpy as np

from minidiff.autograd import Tensor, no_grad
from minidiff.nn.module import Module


class Network(Module):
    """net(x, t, label=None) → the shape of x, or twice the channels where the variance is learned too.

    x (B, …): an array gives an array, with no tape and no dropout; a Tensor gives a Tensor.
    t (B,): times 1…T. label (B,): integers 0…classes − 1, and `classes` itself for "no class", which is also the
    default. rng: draws the dropout of a training step; without it there is none.

    A network of your own is a subclass that defines `forward`. Everything else is optional: set `classes` in the
    constructor if it is conditioned on labels, `learned_variance` if its output has twice the channels of x, and
    `settings`, the arguments that build it again, for `nn.describe`.
    """

    settings: Mapping[str, object] = {}
    classes: int = 0  # how many labels there are; 0: unconditional
    learned_variance: bool = False

    @overload
    def __call__(
        self,
        x: np.ndarray,
        t: np.ndarray,
        label: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self,
        x: Tensor,
        t: np.ndarray,
        label: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor: ...
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
            return self._checked(self.forward(x, t, label, rng))
        dtype = self.dtype
        with no_grad():
            out = self._checked(self.forward(Tensor(x.astype(dtype, copy=False)), t, label, None)).data
        return out if x.dtype == dtype else out.astype(np.result_type(x.dtype, np.float32), copy=False)

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        """The network itself. t (B,); label (B,), None only where there are no classes; rng: for dropout."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(x, t, label, rng)")

    def activations(self) -> int:
        """About how many numbers of each sample a training step keeps at once; 0 where they are not counted."""
        return 0

    def _checked(self, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            name = type(self).__name__
            raise TypeError(f"{name}.forward must return a Tensor, got {type(output).__name__}")
        return output

    def _complete(self, label: np.ndarray | None, batch: int) -> np.ndarray | None:
        """A checked label for each of the batch, "no class" by default; None where there are no classes."""
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
