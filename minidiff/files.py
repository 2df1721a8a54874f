"""Atomic writes: a file is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np


def replace(path: Path, content: bytes) -> None:
    """Atomically make `content` the content of the file `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """An open file, to be written and read, which after the block is atomically the file `path`, new or not.

    Readers see the old content or the new, never a mixture; so it is after a crash too. If the block raises, the old
    content stays. A process that is killed in here may leave a file that `temporaries` finds. Raises OSError where
    nothing can be written.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names of a folder's files on disk, where the system can: not on Windows, nor on some network drives."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporaries(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """What `replace`, killed while it wrote one of these files in the folder, left there."""
    pattern = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[a-z0-9_]{{8}}")
    return (path for path in folder.iterdir() if pattern.fullmatch(path.name))


def _umask() -> int:
    """The permissions that new files do not get; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray], comment: bytes = b"") -> None:
    """Write an uncompressed .npz of these arrays, and nothing pickled, into an open file; comment: the archive's.

    The bytes are those of `np.savez`, some versions of which always may pickle. Contiguous arrays are not copied.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_npy(member, np.asanyarray(array))
        archive.comment = comment


def _write_npy(file: IO[bytes], array: np.ndarray) -> None:
    """As `np.lib.format.write_array`, which copies every array, does without pickle."""
    if array.dtype.hasobject:
        raise ValueError("an array of objects cannot be written without pickle")
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    in_order = np.ascontiguousarray(array.T if header["fortran_order"] else array)
    file.write(in_order.reshape(-1).view(np.uint8).data)
