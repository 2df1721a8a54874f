"""`.npy` and `.npz` files, read without unpickling anything and without trusting the headers.

An `.npz` holds samples, and perhaps labels, under one of the pairs of `NAMES`, or samples as its only array. With the
names of Keras and MedMNIST it also holds others to measure with.
"""

import math
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NamedTuple

import numpy as np

from .stored import BYTES, Stored
from .strict import DAMAGE, Readable, damage_as_value_error, read_exactly
from .wording import first_of, printable

NPY_MAGIC = np.lib.format.MAGIC_PREFIX
ZIP_MAGIC = b"PK"
# What parsing a header raises; NumPy limits it to 10 kB, so that a MemoryError can only be the parser's own.
BAD_HEADER = (KeyError, MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError)
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAPPED_FROM = 1 << 26  # bytes; what is smaller is read, so that it stays if the file is written again


class Names(NamedTuple):
    """The names of arrays in an `.npz`; None where there are none to hold out."""

    samples: str
    labels: str
    held_out: str | None = None
    held_out_labels: str | None = None


KERAS = Names("x_train", "y_train", "x_test", "y_test")
NAMES = (
    Names("images", "labels"),
    Names("samples", "labels"),
    KERAS,
    Names("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)


class Header(NamedTuple):
    """What precedes the bytes of an array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """How many bytes should follow."""
        return math.prod(self.shape) * self.dtype.itemsize

    def arrange(self, entries: np.ndarray) -> np.ndarray:
        """The array of these entries."""
        return entries.reshape(self.shape, order="F" if self.fortran_order else "C")


def read_npy(path: Path) -> np.ndarray:
    """The array of real numbers in the file `path`; a large one is mapped into memory, so the file must stay as it is.

    Raises ValueError when the file is damaged or holds anything else.
    """
    with damage_as_value_error(path), path.open("rb") as stream:
        header = _read_header(stream, path)
        if header.nbytes < MAPPED_FROM:
            return _read_body(stream, header, path)
        start, size = stream.tell(), os.fstat(stream.fileno()).st_size
        if start + header.nbytes != size:
            raise ValueError(
                f"{path}: the header declares {header.nbytes} bytes of data, but {size - start} follow; "
                "the file is damaged"
            )
        body = np.memmap(path, header.dtype, "r", start).view(np.ndarray)
        return header.arrange(body)


def read_npz(path: Path) -> Stored:
    """What the file `path` holds; ValueError when it is damaged or ambiguous."""
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = _names_of(list(members), path)

        def array(name: str | None) -> np.ndarray | None:
            return None if name is None or name not in members else _read_member(archive, members[name], path)

        samples = _read_member(archive, members[names.samples], path)
        return Stored(
            samples,
            array(names.labels),
            array(names.held_out),
            array(names.held_out_labels),
            limits=BYTES if names.held_out and samples.dtype == np.uint8 else None,
            left_out=first_of([name for name in members if name not in names]),
        )


def npz_blocks(path: Path, size: int) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """The shape of the samples in the file `path`, and an iterator over them, `size` at a time.

    Raises ValueError, as `read_npz`, here or as blocks are taken.
    """
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = members[_names_of(list(members), path).samples]
        with _opened(archive, info, path) as stream:
            header = _read_header(stream, path)
    if header.fortran_order and len(header.shape) > 1:
        raise ValueError(f"{path}: expected samples one after the other, got an array in Fortran's order")

    def blocks() -> Iterator[np.ndarray]:
        numbers = math.prod(header.shape[1:])
        with (
            damage_as_value_error(path),
            zipfile.ZipFile(path) as archive,
            _opened(archive, info, path) as stream,
        ):
            _read_header(stream, path)
            for start in range(0, header.shape[0], size):
                count = min(size, header.shape[0] - start)
                body = stream.read(count * numbers * header.dtype.itemsize)
                if len(body) < count * numbers * header.dtype.itemsize:
                    raise EOFError("it ends before its samples do")
                yield np.frombuffer(body, header.dtype).reshape(count, *header.shape[1:])

    return header.shape, blocks()


def read_arrays(path: Path, names: Sequence[str], others: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays with these names in the `.npz` file `path`, and those with other names that are there.

    Raises ValueError when one of the names is missing, or the file is damaged.
    """
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if not set(names) <= members.keys():
            found = first_of([*members]) or "nothing"
            raise ValueError(f"{path}: expected arrays called {' and '.join(names)}, found {found}")
        return {
            name: _read_member(archive, members[name], path) for name in (*names, *others) if name in members
        }


def may_be_npz(path: Path) -> bool:
    """Whether a zip file has arrays in it, or none that can be said to be something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE:
        return True
    return not names or any(name.endswith(".npy") for name in names)


def _names_of(members: list[str], path: Path) -> Names:
    for names in NAMES:
        if names.samples in members:
            return names
    others = [name for name in members if name != "labels"]
    if len(others) == 1:
        return Names(others[0], "labels")
    known, found = ", ".join(names.samples for names in NAMES), first_of(members) or "nothing"
    raise ValueError(f"{path}: expected an array called {known}, or only one array; it holds {found}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with _opened(archive, info, path) as stream:
        return _read_body(stream, _read_header(stream, path), path)


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> IO[bytes]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{path}: {printable(info.filename, 60)} has a compression that NumPy does not write"
        )
    return archive.open(info)


def _read_header(stream: Readable, path: Path) -> Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them, which take longer to read
            header = Header(*READERS[np.lib.format.read_magic(stream)](stream))
    except BAD_HEADER as error:
        raise ValueError(
            f"{path}: expected an array as NumPy writes it, got a damaged or unknown header"
        ) from error
    if header.dtype.kind not in "buif":
        raise ValueError(f"{path}: expected real numbers, got entries of type {str(header.dtype)[:80]}")
    # A bool is an int to NumPy's parser.
    if not 1 <= len(header.shape) <= 4 or any(type(size) is not int or size < 1 for size in header.shape):
        raise ValueError(
            f"{path}: expected an array (N, …) with samples in it, got one of the shape {str(header.shape)[:80]}"
        )
    return header


def _read_body(stream: Readable, header: Header, path: Path) -> np.ndarray:
    body = read_exactly(stream, header.nbytes, path)
    return header.arrange(np.frombuffer(body, header.dtype))
