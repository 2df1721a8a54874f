"""IDX, the format of MNIST and data sets like it, gzipped or not.

A file is a magic number (two zero bytes, the type of the entries, the number of dimensions), the sizes as
big-endian 32-bit integers, then the entries, the last dimension varying fastest. Images are unsigned bytes
(type 8) in three dimensions, magic 0x00000803; labels are unsigned bytes in one, magic 0x00000801.
"""

import gzip
import math
import re
import struct
from pathlib import Path

import numpy as np

from .strict import Readable, damage_as_value_error, read_exactly

GZIP_MAGIC = b"\x1f\x8b"
UBYTE_MAGIC = b"\x00\x00\x08"
IMAGES_NAME = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")


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


def read_images_and_labels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (N, H, W, 1) of the IDX file `path`; labels (N,) of the one beside it, or None."""
    images = read_idx(path, ndim=3)[..., None]
    labels_path = _labels_beside(path)
    if labels_path is None:
        return images, None
    labels = read_idx(labels_path, ndim=1)
    if len(labels) != len(images):
        raise ValueError(
            f"{labels_path}: expected {len(images)} labels, one for each image beside it, got {len(labels)}"
        )
    return images, labels


def _labels_beside(images: Path) -> Path | None:
    """`…labels-idx1-ubyte[.gz]` for `…images-idx3-ubyte[.gz]`; either may be gzipped without the other."""
    if not IMAGES_NAME.search(images.name):
        return None
    head, _, tail = images.name.removesuffix(".gz").rpartition("images")
    plain = images.with_name(f"{head}labels{tail.replace('idx3', 'idx1')}")
    packed = plain.with_name(f"{plain.name}.gz")
    candidates = [packed, plain] if images.name.endswith(".gz") else [plain, packed]
    return next((path for path in candidates if path.is_file()), None)


def find_images(folder: Path) -> tuple[Path | None, Path | None]:
    """The IDX files of images in `folder`: to train on, and held out (None where there is no such file).

    `train-…` is trained on and `t10k-…` held out; a file that is the only one is trained on. Raises ValueError when
    the names are ambiguous.
    """
    found = {
        path.name.removesuffix(".gz"): path
        for path in sorted(folder.iterdir())
        if IMAGES_NAME.search(path.name)
    }
    train = [path for name, path in found.items() if "train" in name]
    rest = [path for name, path in found.items() if "train" not in name]
    if len(train) > 1 or len(rest) > 1:
        names = ", ".join(path.name for path in found.values())
        raise ValueError(f"{folder}: holds several sets of images ({names}); name the file of one")
    train_path, held_out_path, *_ = [*train, *rest, None, None]
    return train_path, held_out_path
