"""Atomic writes: a file is written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np


def replace(path: Path, content: bytes) -> None:
    """Atomically make `content` the content of the file `path`, new or not; OSError where it cannot be written.

    Readers see the old content or the new, never a mixture; so it is after a crash too. A process that is killed in
    here may leave a file that `temporaries` finds.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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


def npz(arrays: Mapping[str, np.ndarray], comment: bytes = b"") -> bytes:
    """The content of an uncompressed .npz file with these arrays, and nothing pickled; comment: the archive's.

    The bytes are those of `np.savez`, some versions of which always may pickle.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        archive.comment = comment
    return content.getvalue()
