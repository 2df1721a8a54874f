"""`.npy` and `.npz`, read without unpickling anything and without believing the headers.

Samples lie under `images` or `samples`, or are the only array; `labels` may lie beside them.
"""

import math
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from .strict import damage_as_value_error, read_exactly

NPY_MAGIC = np.lib.format.MAGIC_PREFIX
ZIP_MAGIC = b"PK"
# What parsing a header raises; it has at most 10 kB, so that the memory it runs out of is only the parser's.
BAD_HEADER = (KeyError, MemoryError, RecursionError, SyntaxError, TokenError, ValueError)
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> np.ndarray:
    """The array of real numbers in the file `path`; ValueError when it is damaged or holds anything else."""
    with damage_as_value_error(path), path.open("rb") as stream:
        return _read_array(stream, path)


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, and labels or None, of the file `path`; ValueError when it is damaged or leaves them open."""
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        others = [key for key in members if key != "labels"]
        key = next(
            (usual for usual in ("images", "samples") if usual in members),
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
        raise ValueError(f"{path}: {info.filename} is packed in a way that NumPy does not write")
    with archive.open(info) as stream:
        return _read_array(stream, path)


def _read_array(stream: BinaryIO, path: Path) -> np.ndarray:
    try:
        shape, fortran_order, dtype = READERS[np.lib.format.read_magic(stream)](stream)
    except BAD_HEADER as error:
        raise ValueError(
            f"{path}: expected an array as NumPy writes it, got a damaged or foreign header"
        ) from error
    if dtype.kind not in "buif":
        raise ValueError(f"{path}: expected real numbers, got entries of type {dtype}")
    if any(size < 1 for size in shape):
        raise ValueError(f"{path}: expected an array with samples in it, got one of the shape {shape}")
    body = read_exactly(stream, math.prod(shape) * dtype.itemsize, path)
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")
