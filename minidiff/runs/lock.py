"""A run belongs to one process at a time: an exclusive lock on a file in its folder.

The system releases the lock when the process ends, however it ends. A process that is stopped keeps it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

NAME = "lock"
_HELD_BY = b"process "  # a lock file begins with it, unless its writer was killed before
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    MOVABLE = False  # an open file cannot be removed, nor its folder renamed

    def _lock(file: IO[bytes]) -> None:
        file.seek(2**30)  # far behind the content, which a lock makes unreadable here
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    MOVABLE = True

    def _lock(file: IO[bytes]) -> None:
        import fcntl  # raises ImportError on systems without locks

        # Over NFS it holds as lockf does; but that is released when any other handle to the file is closed.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """A lock that this process holds until the last reference to it is gone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inode = file, _inode(os.fstat(file.fileno()))
        _held[self._inode] = self

    def __del__(self) -> None:
        self._file.close()

    def rename(self, folder: Path, target: Path) -> None:
        """Rename the locked folder. On Windows that releases the lock."""
        if not MOVABLE:
            self._release()
        os.rename(folder, target)

    def remove(self, folder: Path) -> None:
        """Remove the lock file from the folder, and release it."""
        if not MOVABLE:
            self._release()
        with contextlib.suppress(OSError):
            os.unlink(folder / NAME)
        self._release()

    def _release(self) -> None:
        self._file.close()
        _held.pop(self._inode, None)


# By inode: to lock a file once more, even by the same process, would fail.
_held: WeakValueDictionary[tuple[int, int], Lock] = WeakValueDictionary()


def take(folder: Path, run: Path | None = None) -> Lock:
    """Lock a folder for this process, which may hold the lock already.

    run: what the folder will be called, if not as it is. On file systems without locks this is no protection, and no
    error. Raises BlockingIOError where another process holds the lock; the message has which.
    """
    if held := _held_already(folder):
        return held
    file = _open_and_lock(folder, run or folder)
    with contextlib.suppress(OSError):  # of a full disk: the lock holds without
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(_HELD_BY + f"{os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    return Lock(file)


def in_use(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    try:
        check(folder)
    except BlockingIOError:
        return True
    return False


def check(folder: Path) -> None:
    """Raises BlockingIOError, as `take` does, where another process holds the lock."""
    if (folder / NAME).exists() and not _held_already(folder):
        _open_and_lock(folder, folder).close()


def _held_already(folder: Path) -> Lock | None:
    path = folder / NAME
    return _held.get(_inode(os.stat(path))) if path.exists() else None


def _open_and_lock(folder: Path, run: Path) -> IO[bytes]:
    """The lock file of a folder, which is locked for as long as it is open."""
    path = folder / NAME
    while True:
        file = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            _lock(file)
        except ImportError:
            pass
        except OSError as error:
            if error.errno in _BUSY:
                file.close()
                raise BlockingIOError(
                    f"{run} is in use by {_holder(path)}; only one at a time can train a run"
                ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # the file was removed, perhaps made anew, before it was locked


def is_lock(path: Path) -> bool:
    """Whether a file is the lock of a run, and no other file of this name."""
    if path.name != NAME or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_HELD_BY)) in (b"", _HELD_BY)


def _holder(path: Path) -> str:
    with open(path, "rb") as file:
        text = file.read(200).decode(errors="replace").strip()
    return text if text.isprintable() and text else "another process"


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
