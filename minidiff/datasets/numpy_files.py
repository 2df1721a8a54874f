"""`.npy` and `.npz` files, read without unpickling anything and without trusting the headers.

An `.npz` holds samples as `images` or `samples`, or as its only array; it may also hold `labels`.
"""

import math
import zipfile
from pathlib import Path
from tokenize import TokenError

import numpy as np

from .strict import Readable, damage_as_value_error, read_exactly

NPY_MAGIC = np.lib.format.MAGIC_PREFIX
ZIP_MAGIC = b"PK"
# What parsing a header raises; NumPy limits it to 10 kB, so that a MemoryError can only be the parser's own.
BAD_HEADER = (KeyError, MemoryError, RecursionError, SyntaxError, TokenError, ValueError)
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> np.ndarray:
    """The array of real numbers in the file `path`; ValueError when it is damaged or holds anything else."""
    with damage_as_value_error(path), path.open("rb") as stream:
        return _read_array(stream, path)


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, and labels or None, of the file `path`; ValueError when it is damaged or ambiguous."""
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        others = [key for key in members if key != "labels"]
        key = next(
            (standard for standard in ("images", "samples") if standard in members),
            others[0] if len(others) == 1 else None,
        )
        if key is None:
            found = ", ".join(members) or "nothing"
            raise ValueError(
                f"{path}: expected an array called images or samples, or only one array; it holds {found}"
            )
        samples = _read_member(archive, members[key], path)
        labels = _read_member(archive, members["labels"], path) if "labels" in members else None
        return samples, labels


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{path}: {info.filename} has a compression that NumPy does not write")
    with archive.open(info) as stream:
        return _read_array(stream, path)


def _read_array(stream: Readable, path: Path) -> np.ndarray:
    try:
        shape, fortran_order, dtype = READERS[np.lib.format.read_magic(stream)](stream)
    except BAD_HEADER as error:
        raise ValueError(
            f"{path}: expected an array as NumPy writes it, got a damaged or unknown header"
        ) from error
    if dtype.kind not in "buif":
        raise ValueError(f"{path}: expected real numbers, got entries of type {dtype}")
    if any(size < 1 for size in shape):
        raise ValueError(f"{path}: expected an array with samples in it, got one of the shape {shape}")
    body = read_exactly(stream, math.prod(shape) * dtype.itemsize, path)
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")
