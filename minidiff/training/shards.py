"""A batch in parts: each goes through the network by itself, in less memory, and their gradients are added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidiff import kernels


class Batch(NamedTuple):
    """What is drawn for a step: x0 and noise (B, …), t (B,), label (B,) or None.

    weight (B,): of the loss of each sample, in a mean over the batch; None: all are 1.
    """

    x0: np.ndarray
    t: np.ndarray
    noise: np.ndarray
    label: np.ndarray | None
    weight: np.ndarray | None

    def shards(self, count: int) -> list[Batch]:
        """The batch cut into `count` parts, one after the other, whose sizes differ by at most one."""
        ends = [len(self.x0) * n // count for n in range(count + 1)]

        def cut(begin: int, end: int) -> Batch:
            label, weight = (None if a is None else a[begin:end] for a in (self.label, self.weight))
            return Batch(self.x0[begin:end], self.t[begin:end], self.noise[begin:end], label, weight)

        return [cut(begin, end) for begin, end in pairwise(ends)]


def add_as_tree(terms: Sequence[Callable[[], float]], gradients: np.ndarray) -> float:
    """Σ of the terms; each returns a number and adds its gradient to `gradients` (n,), which are 0 before.

    Both sums run as a binary tree over halves of the terms. So they have one order, whoever computes a subtree.
    """
    if len(terms) == 1:
        return terms[0]()
    half = len(terms) // 2
    first = add_as_tree(terms[:half], gradients)
    of_first = kernels.copy(gradients)
    gradients.fill(0)
    second = add_as_tree(terms[half:], gradients)
    gradients += of_first
    return first + second
