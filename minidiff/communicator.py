"""The processes that share a work: this one alone here; those that `mpiexec` started are in `runs.mpi`.

Each process has a rank, 0…size − 1. All run the same program on the same data, and whatever decides what happens next
is the same on all of them: so they meet at the same calls, in the same order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import numpy as np

T = TypeVar("T")


class Communicator:
    """A single process. Several are a subclass with its own methods down to `fail`; the others are built on those."""

    rank, size = 0, 1

    def name_of(self, rank: int) -> str:
        """A process as messages name it."""
        return f"rank {rank} of {self.size}"

    def allgather(self, item: T) -> list[T]:
        """The items of all processes by rank, on each of them."""
        return [item]

    def gather(self, item: T) -> list[T]:
        """The items of all processes by rank, on rank 0; elsewhere an empty list."""
        return [item]

    def alltoall(self, vector: np.ndarray, rows: np.ndarray) -> None:
        """Write one's slice, `own(n)`, of the vectors (n,) of all processes into `rows` (size, len(own(n)))."""
        rows[0] = vector

    def allgather_slices(self, piece: np.ndarray, vector: np.ndarray) -> None:
        """Write the slices of all processes, each that of its `own(n)`, into `vector` (n,)."""
        vector[...] = piece

    def fail(self, reason: str, status: int) -> None:
        """Print why this process ends, once for all that end for the same reason, and end those that would not."""
        print(reason, file=sys.stderr)

    def own(self, count: int, rank: int | None = None) -> range:
        """Which of `count` items are those of this process, or of another: neighbours, whose numbers differ by one."""
        rank = self.rank if rank is None else rank
        return range(count * rank // self.size, count * (rank + 1) // self.size)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        return any(self.allgather(flag))

    def broadcast(self, act: Callable[[], T]) -> T:
        """What act() returns, called on rank 0 alone, or raises."""
        result: T | None = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                result = act()
            except Exception as raised:
                error = raised
        result, error = self.allgather((result, error))[0]
        if error is not None:
            raise error
        return cast(T, result)

    def on_root(self, act: Callable[[], T]) -> T | None:
        """What act() returns on rank 0, elsewhere None; what it raises is raised on all."""
        results: list[T] = []
        self.broadcast(lambda: results.append(act()))
        return results[0] if results else None

    def require_equal(self, facts: Mapping[str, object]) -> None:
        """Raises ValueError, on all processes, where one of these facts is not the same on all."""
        of_all = self.allgather(facts)
        for rank, of_rank in enumerate(of_all):
            for name, fact in of_rank.items():
                if fact != of_all[0][name]:
                    raise ValueError(
                        f"{name}: {self.name_of(rank)} has {fact}, {self.name_of(0)} has {of_all[0][name]}; "
                        "expected the same on all processes"
                    )


SINGLE = Communicator()
