"""A batch in parts: each goes through the network by itself, in less memory, and their gradients are added up.

The sum runs as a binary tree over halves of the shards. Each process adds the subtrees whose shards are all its own;
their sums are added slice by slice, one slice a process, in the tree's order. So every sum has one order, whoever
computes it, and its bits do not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from minidiff import kernels
from minidiff.communicator import SINGLE, Communicator

T = TypeVar("T")
Sum = TypeVar("Sum", float, np.ndarray)


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


def add_as_tree(
    term: Callable[[int], T], shards: int, gradients: np.ndarray, comm: Communicator = SINGLE
) -> list[T]:
    """Call term(shard) for each shard, which adds its gradient to `gradients` (n,), 0 before; returns the results.

    Each process calls it for its own shards; the gradients and the results are those of all shards on every process.
    """
    tree, results, sums = range(shards), list[T](), list[np.ndarray]()
    own = list(subtrees(tree, comm.own(shards)))
    for subtree in own:
        results += _add_subtree(term, subtree, gradients)
        sums.append(gradients if subtree == own[-1] else _moved(gradients))
    if comm.size > 1:
        results = [result for of_rank in comm.allgather(results) for result in of_rank]
        _add_over_processes(tree, sums, gradients, comm)
    return results


def subtrees(tree: range, own: range) -> Iterator[range]:
    """The largest subtrees of a tree that lie in a range, from left to right."""
    if own.start <= tree.start and tree.stop <= own.stop:
        yield tree
    elif own.start < tree.stop and tree.start < own.stop:
        for half in _halves(tree):
            yield from subtrees(half, own)


def total(tree: range, sums: Mapping[range, Sum]) -> Sum:
    """The sum over a tree from those over subtrees, which arrays among them are overwritten by."""
    if tree in sums:
        return sums[tree]
    first, second = (total(half, sums) for half in _halves(tree))
    first += second
    return first


def _halves(tree: range) -> tuple[range, range]:
    half = len(tree) // 2
    return tree[:half], tree[half:]


def _add_subtree(term: Callable[[int], T], tree: range, gradients: np.ndarray) -> list[T]:
    if len(tree) == 1:
        return [term(tree[0])]
    first, second = _halves(tree)
    results = _add_subtree(term, first, gradients)
    of_first = _moved(gradients)
    results += _add_subtree(term, second, gradients)
    gradients += of_first
    return results


def _moved(gradients: np.ndarray) -> np.ndarray:
    """A copy of the gradients, which are 0 afterwards."""
    copy = kernels.copy(gradients)
    gradients.fill(0)
    return copy


def _add_over_processes(
    tree: range, sums: Sequence[np.ndarray], gradients: np.ndarray, comm: Communicator
) -> None:
    """Write the sum over the tree into `gradients`; sums: those over the subtrees of this process."""
    trees = [list(subtrees(tree, comm.own(len(tree), rank))) for rank in range(comm.size)]
    shape = comm.size, len(comm.own(gradients.size))
    slices: dict[range, np.ndarray] = {}
    for n in range(max(map(len, trees))):
        rows = kernels.empty(shape, gradients.dtype)
        comm.alltoall(sums[min(n, len(sums) - 1)], rows)  # who has fewer sends the last again
        slices |= {of_rank[n]: row for of_rank, row in zip(trees, rows, strict=True) if n < len(of_rank)}
    comm.allgather_slices(total(tree, slices), gradients)
