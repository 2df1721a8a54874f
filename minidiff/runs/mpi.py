"""The processes that `mpiexec` started, over mpi4py: a `Communicator` whose messages MPI carries.

A single process never imports mpi4py: whether there are more is read from the environment that the launcher sets.

MPI busy-waits. So the processes meet first: each sends what it has to rank 0, which then lets all go on, and a process
that waits sleeps between two looks. Then a collective operation finds everyone there.

Whoever ends, ends the others: a process sends all of them a notice when it ends, with the reason if it failed, and one
that waits for it then fails for that reason. Only processes that do not even look are ended by MPI_Abort.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import time
import warnings
from functools import cache
from importlib import metadata
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np

from minidiff import __version__
from minidiff.communicator import SINGLE, Communicator
from minidiff.kernels import microkernel, threads

T = TypeVar("T")

# How launchers say how many processes there are, and which this is: MPICH and its kin, Open MPI, Slurm's srun.
LAUNCHERS = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
WARN_AFTER, GIVE_UP_AFTER = 60.0, 1800.0  # seconds that a process waits for the others
START_LIMIT = 600.0  # seconds in which all processes have to start
GRACE = 2.0  # seconds that a process which failed leaves the others to end by themselves
MEETING, END = 1, 2  # tags of messages: to and from rank 0 where all meet; the last of a process


class PeerFailed(RuntimeError):
    """Another process has ended, or does not come."""


def launched() -> tuple[int, int]:
    """The rank of this process and how many there are, as the launcher says; (0, 1) without one."""
    for size, rank in LAUNCHERS.items():
        if int(os.environ.get(size, 1)) > 1:
            return int(os.environ.get(rank, 0)), int(os.environ[size])
    return 0, 1


@cache
def world() -> Communicator:
    """All processes that the launcher started; without one, this process alone.

    Raises RuntimeError where mpi4py is missing, or belongs to another MPI than the launcher.
    """
    size = launched()[1]
    if size == 1:
        return SINGLE
    try:
        return Processes()
    except ImportError as error:
        raise RuntimeError(
            f"mpiexec started {size} processes, which need mpi4py to work together: pip install 'minidiff[mpi]'"
        ) from error


class Processes(Communicator):
    """All processes that the launcher started, each on its part of the cores of its host.

    Raises RuntimeError where MPI finds another number of them, and ValueError where their versions differ.
    """

    def __init__(self) -> None:
        # MPI_Init waits for all processes, and holds Python's global lock.
        faulthandler.dump_traceback_later(START_LIMIT, exit=True, file=2)
        from mpi4py import MPI  # initialises MPI

        faulthandler.cancel_dump_traceback_later()
        self._mpi, self._world, self._messages = MPI, MPI.COMM_WORLD, MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._world.rank, self._world.size
        if self.size != launched()[1]:
            library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip()
            raise RuntimeError(
                f"mpiexec started {launched()[1]} processes, and each found {self.size}: mpi4py uses {library}, and "
                f"mpiexec belongs to another MPI; the right one may be {os.path.dirname(sys.executable)}/mpiexec"
            )
        self._sent: list[Any] = []
        self._inbox: dict[int, Any] = {}  # rank → what it sent for the meeting
        self._ended: dict[int, tuple[int, str]] = {}  # rank → exit status and reason
        self._hosts = [""] * self.size
        self._hosts = self.allgather(MPI.Get_processor_name())
        self._compare_versions()
        self._divide_cores()
        sys.excepthook = self._fail_uncaught
        atexit.register(self._end)

    def name_of(self, rank: int) -> str:
        """A process as messages name it."""
        return f"rank {rank} of {self.size}, on {self._hosts[rank]}"

    # ---- communication

    def allgather(self, item: T) -> list[T]:
        """The items of all processes by rank, on each of them."""
        return cast(list[T], self._world.bcast(self.gather(item)))

    def gather(self, item: T) -> list[T]:
        """The items of all processes by rank, on rank 0; elsewhere an empty list. All processes meet here."""
        if self.rank:
            self._send(0, MEETING, item)
            self._receive({0})
            return []
        items = {0: item, **self._receive({*range(1, self.size)})}
        for rank in range(1, self.size):
            self._send(rank, MEETING)
        return [items[rank] for rank in range(self.size)]

    def alltoall(self, vector: np.ndarray, rows: np.ndarray) -> None:
        """Write this process's slice of the vectors of all processes into `rows`."""
        slices = [self.own(vector.size, rank) for rank in range(self.size)]
        counts, starts = [len(piece) for piece in slices], [piece.start for piece in slices]
        self._world.Alltoallv([vector, (counts, starts)], [rows, [rows.shape[1]] * self.size])

    def allgather_slices(self, piece: np.ndarray, vector: np.ndarray) -> None:
        """Write the slices of all processes into `vector`."""
        counts = [len(self.own(vector.size, rank)) for rank in range(self.size)]
        self._world.Allgatherv(piece, [vector, counts])

    def _send(self, rank: int, tag: int, item: object = None) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._messages.isend(item, rank, tag))

    def _read(self) -> None:
        """Take in all messages that have come, in their order."""
        status = self._mpi.Status()
        while message := self._messages.improbe(status=status):
            rank, item = status.Get_source(), message.recv()
            (self._ended if status.Get_tag() == END else self._inbox)[rank] = item

    def _receive(self, ranks: set[int]) -> dict[int, Any]:
        """The item that each of these ranks sends for the meeting. Raises PeerFailed where one will not."""
        begin, warned = time.monotonic(), False
        self._read()
        while missing := ranks - self._inbox.keys():
            waited, names = time.monotonic() - begin, ", ".join(map(self.name_of, sorted(missing)))
            if gone := missing & self._ended.keys():
                reason = self._ended[min(gone)][1] or "has ended, while others wait for it"
                raise PeerFailed(f"{self.name_of(min(gone))}: {reason}")
            if waited > GIVE_UP_AFTER:
                raise PeerFailed(f"waited {waited:.0f} s for {names}")
            if waited > WARN_AFTER and not warned and self.rank < 2:  # rank 1 in case that rank 0 is missing
                line = f"minidiff: {self.name_of(self.rank)}: waiting for {names}"
                print(line, file=sys.__stderr__, flush=True)
                warned = True
            time.sleep(min(1e-3, waited / 20))
            self._read()
        return {rank: self._inbox.pop(rank) for rank in ranks}

    # ---- the end

    def fail(self, reason: str, status: int) -> None:
        """Print why this process ends, once for all that end for the same reason, and end those that would not."""
        if self.rank == 0:
            super().fail(reason, status)
        self._end(status, reason)

    def _end(self, status: int = 0, reason: str = "") -> None:
        """Notify the others, and wait for their notices: as long as it takes, or for a moment where this one failed."""
        if self.rank in self._ended:
            return
        reason = reason.removeprefix("minidiff: ")
        self._ended[self.rank] = status, reason
        for rank in {*range(self.size)} - {self.rank}:
            self._send(rank, END, (status, reason))
        begin = time.monotonic()
        while len(self._ended) < self.size and (not status or time.monotonic() - begin < GRACE):
            self._read()
            time.sleep(1e-3)
        failed = sorted(rank for rank, (its_status, _) in self._ended.items() if its_status)
        if failed and failed[0] != 0 and (self.rank == 0 or 0 not in self._ended):
            line = f"minidiff: {self.name_of(failed[0])}: {self._ended[failed[0]][1]}"
            print(line, file=sys.__stderr__, flush=True)
        if len(self._ended) < self.size:
            self._world.Abort(status)

    def _fail_uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self.rank == 0 or kind is not PeerFailed:
            sys.__excepthook__(kind, error, trace)
        self._end(130 if kind is KeyboardInterrupt else 1, f"{kind.__name__}: {error}")

    # ---- the hosts

    def _compare_versions(self) -> None:
        """Refuse versions with other bits; warn of CPUs whose vectors differ, since sums over those have other bits."""
        versions = {name: metadata.version(name) for name in ("numpy", "numba")}
        kernels = os.environ.get("MINIDIFF_KERNELS", "numba")
        self.require_equal({"minidiff": __version__, **versions, "MINIDIFF_KERNELS": kernels})
        widths = sorted({*self.allgather(microkernel.WIDTH)})
        if len(widths) > 1 and self.rank == 0:
            warnings.warn(
                f"the CPUs have vectors of {' and '.join(map(str, widths))} numbers, which add in another order: "
                "the result will depend on which process computes what",
                RuntimeWarning,
                stacklevel=2,
            )

    def _divide_cores(self) -> None:
        """Leave each process its part of the cores that it has in common with others; a launcher may have bound it."""
        if "NUMBA_NUM_THREADS" in os.environ or not hasattr(os, "sched_getaffinity"):
            return
        cores = self.allgather((self._hosts[self.rank], os.sched_getaffinity(0)))
        host, own = cores[self.rank]
        sharing = sum(other_host == host and bool(other & own) for other_host, other in cores)
        threads.use(max(1, threads.cpus() // sharing))
