"""Threads in the place of processes: a communicator that needs no MPI."""

import threading
from collections import defaultdict

import numpy as np

from minidiff.communicator import Communicator


class Threads(Communicator):
    """One of several threads, which put what they have on a table."""

    def __init__(self, rank, table):
        self.rank, self.size, self._table, self._meetings = rank, table.size, table, 0

    def allgather(self, item):
        self._meetings += 1
        return self._table.meet(self._meetings, self.rank, item)

    def gather(self, item):
        items = self.allgather(item)
        return [] if self.rank else items

    def alltoall(self, vector, rows):
        own = self.own(vector.size)
        for row, other in zip(rows, self.allgather(vector), strict=True):
            row[...] = other[own.start : own.stop]
        self.allgather(None)  # only then may a thread change its vector

    def allgather_slices(self, piece, vector):
        vector[...] = np.concatenate(self.allgather(piece))


class _Table:
    def __init__(self, size):
        self.size, self.changed, self.ended, self.items = (
            size,
            threading.Condition(),
            set(),
            defaultdict(dict),
        )

    def meet(self, meeting, rank, item):
        """The items of all threads at this meeting. Raises RuntimeError where one has ended before it."""
        items = self.items[meeting]
        with self.changed:
            items[rank] = item
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(items) == self.size or self.ended - items.keys(), timeout=60)
        if len(items) < self.size:
            raise RuntimeError(f"{self.ended - items.keys()} ended, and rank {rank} waits for it")
        return [items[rank] for rank in range(self.size)]

    def end(self, rank):
        with self.changed:
            self.ended.add(rank)
            self.changed.notify_all()


def in_threads(size, work):
    """What work(communicator) returns, or raises, in each of `size` threads."""
    table, results = _Table(size), [None] * size

    def run(rank):
        try:
            results[rank] = work(Threads(rank, table))
        except Exception as error:
            results[rank] = error
        table.end(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
