"""IDX, the format of MNIST and data sets like it, gzipped or not.

A file is a magic number (two zero bytes, the type of the entries, the number of dimensions), the sizes as
big-endian 32-bit integers, then the entries, the last dimension varying fastest. Images are unsigned bytes
(type 8) in three dimensions, magic 0x00000803; labels are unsigned bytes in one, magic 0x00000801.
"""

import gzip
import math
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from .stored import BYTES, Stored
from .strict import Readable, damage_as_value_error, read_exactly

GZIP_MAGIC = b"\x1f\x8b"
UBYTE_MAGIC = b"\x00\x00\x08"
IMAGES_NAME = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")
FOLDERS = ("", "raw", "MNIST/raw")  # torchvision's are the latter two


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array of unsigned bytes with `ndim` dimensions in the IDX file `path`.

    Raises ValueError when the magic number is wrong, a size is zero, the gz is damaged, or the bytes that
    follow are fewer or more than the header declares.
    """
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    with damage_as_value_error(path), gzip.open(path) if packed else path.open("rb") as stream:
        shape = _read_shape(stream, ndim, path)
        return np.frombuffer(read_exactly(stream, math.prod(shape), path), np.uint8).reshape(shape)


def _read_shape(stream: Readable, ndim: int, path: Path) -> tuple[int, ...]:
    expected = UBYTE_MAGIC + bytes([ndim])
    magic = stream.read(4)
    if magic != expected:
        what = {1: "labels", 3: "images"}[ndim]
        raise ValueError(
            f"{path}: expected an IDX file of {what} (magic 0x{expected.hex()}), "
            f"got {f'a file that begins with 0x{magic.hex()}' if magic else 'an empty file'}"
        )
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError(
            f"{path}: the IDX header is cut short: expected {4 + 4 * ndim} bytes, got {4 + len(sizes)}"
        )
    shape = struct.unpack(f">{ndim}I", sizes)
    if 0 in shape:
        raise ValueError(f"{path}: expected sizes of at least 1 in the IDX header, got {shape}")
    return shape


def read_folder(folder: Path) -> Stored | None:
    """What the IDX files of images in `folder` hold, or None where there are none.

    `train-…` is trained on and `t10k-…` held out; a file that is the only one is trained on. Raises ValueError when
    the names are ambiguous, and as `read_file`.
    """
    found = next(filter(None, (_images_in(folder / name) for name in FOLDERS)), {})
    train = [path for name, path in found.items() if "train" in name]
    rest = [path for name, path in found.items() if "train" not in name]
    if len(train) > 1 or len(rest) > 1:
        names = ", ".join(path.name for path in found.values())
        raise ValueError(f"{folder}: holds several sets of images ({names}); name the file of one")
    paths = [*train, *rest]
    if not paths:
        return None
    stored, *held_out = (read_file(path) for path in paths)
    return (
        replace(stored, held_out=held_out[0].samples, held_out_labels=held_out[0].labels)
        if held_out
        else stored
    )


def read_file(path: Path) -> Stored:
    """Images (N, H, W, 1) of the IDX file `path`, with labels (N,) where a file of them lies beside it.

    Raises ValueError as `read_idx`, and when there are more or fewer labels than images.
    """
    images = read_idx(path, ndim=3)[..., None]
    labels_path = _labels_beside(path)
    if labels_path is None:
        return Stored(images, limits=BYTES)
    labels = read_idx(labels_path, ndim=1)
    if len(labels) != len(images):
        raise ValueError(
            f"{labels_path}: expected {len(images)} labels, one for each image beside it, got {len(labels)}"
        )
    return Stored(images, labels, limits=BYTES)


def _images_in(folder: Path) -> dict[str, Path]:
    """The files of images in `folder`, one for each name; `.gz` and two spellings of a name are the same.

    Some programs unpack a file into a folder of its own name. Hidden files are none: macOS leaves `._train-…` in zips.
    """
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        path = path / path.name if path.is_dir() else path
        if IMAGES_NAME.search(path.name) and path.is_file() and not path.name.startswith("."):
            found[path.name.removesuffix(".gz").replace(".idx", "-idx")] = path
    return found


def _labels_beside(images: Path) -> Path | None:
    """`…labels-idx1-ubyte[.gz]` for `…images-idx3-ubyte[.gz]`; either may be gzipped without the other."""
    if not IMAGES_NAME.search(images.name):
        return None
    head, _, tail = images.name.removesuffix(".gz").rpartition("images")
    plain = f"{head}labels{tail.replace('idx3', 'idx1')}"
    packed = f"{plain}.gz"
    names = [packed, plain] if images.name.endswith(".gz") else [plain, packed]
    # Beside it, or each in a folder of its own name.
    paths = [path for name in names for path in (images.with_name(name), images.parent.parent / name / name)]
    return next((path for path in paths if path.is_file()), None)
