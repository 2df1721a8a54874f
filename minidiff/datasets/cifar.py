"""CIFAR-10 and CIFAR-100 as they are published: binary, or in batches that Python 2 pickled.

An image is 3072 bytes, its red, green and blue planes of 32 × 32. In the binary form each follows its label: one byte
in CIFAR-10; two in CIFAR-100, coarse and fine, of which the fine one is taken. A pickled batch is a dictionary.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidiff import unpickling

from .stored import BYTES, Stored

PLANES = (3, 32, 32)
PIXELS = 3 * 32 * 32


class Layout(NamedTuple):
    """A form of CIFAR: patterns of file names.

    training, held_out: the files of images; class_names: that of the names of the classes. label_bytes: how many
    precede an image of the binary form; or 0, and labels, names: the keys of these in pickled dictionaries.
    """

    training: str
    held_out: str
    class_names: str
    label_bytes: int
    labels: str = ""
    names: str = ""


LAYOUTS = (
    Layout("data_batch_[0-9].bin", "test_batch.bin", "batches.meta.txt", 1),
    Layout("data_batch_[0-9]", "test_batch", "batches.meta", 0, "labels", "label_names"),
    Layout("train.bin", "test.bin", "fine_label_names.txt", 2),
    Layout("train", "test", "meta", 0, "fine_labels", "fine_label_names"),
)


def read_folder(folder: Path) -> Stored | None:
    """What CIFAR's files in `folder` hold, or None where there are none.

    Raises ValueError, which names the file, for damage and for anything else than CIFAR.
    """
    for layout in LAYOUTS:
        training = sorted(path for path in folder.glob(layout.training) if path.is_file())
        if training:
            stored = Stored(*_read(training, layout), limits=BYTES, class_names=_class_names(folder, layout))
            test = folder / layout.held_out
            if not test.is_file():
                return stored
            images, labels = _read([test], layout)
            return replace(stored, held_out=images, held_out_labels=labels)
    return None


def read_file(path: Path) -> Stored | None:
    """The same of one file; None where its name is not one of CIFAR's."""
    for layout in LAYOUTS:
        if path.match(layout.training) or path.name == layout.held_out:
            return Stored(*_read([path], layout), limits=BYTES, class_names=_class_names(path.parent, layout))
    return None


def _read(paths: list[Path], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8, a view of their planes, and labels (N,) of all the files."""
    pixels, labels = bytearray(), list[np.ndarray]()
    for path in paths:
        images, some = _read_binary(path, layout) if layout.label_bytes else _read_batch(path, layout)
        pixels += np.ascontiguousarray(images).data.cast("B")
        labels.append(some)
    planes = np.frombuffer(pixels, np.uint8).reshape(-1, *PLANES)
    return np.moveaxis(planes, 1, -1), np.concatenate(labels)


def _read_binary(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) and labels (N,) of a binary file."""
    content, length = path.read_bytes(), layout.label_bytes + PIXELS
    if not content or len(content) % length:
        raise ValueError(
            f"{path}: expected records of {length} bytes, as CIFAR has, got {len(content)} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return records[:, -PIXELS:], records[:, -PIXELS - 1]


def _read_batch(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The same of a pickled batch."""
    batch = _unpickled(path)
    images, labels = batch.get("data"), batch.get(layout.labels)
    pixels = images.content if isinstance(images, _Array) else b""
    if not pixels or len(pixels) % PIXELS:
        raise ValueError(f"{path}: expected images (N, {PIXELS}) of bytes under the key data, as CIFAR has")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise ValueError(
            f"{path}: expected a list of classes from 0 under the key {layout.labels}, as CIFAR has"
        )
    if len(labels) * PIXELS != len(pixels):
        raise ValueError(
            f"{path}: expected {len(pixels) // PIXELS} labels, one for each image, got {len(labels)}"
        )
    return np.frombuffer(pixels, np.uint8).reshape(-1, PIXELS), np.array(labels, np.uint8)


def _class_names(folder: Path, layout: Layout) -> tuple[str, ...]:
    path = folder / layout.class_names
    if not path.is_file():
        return ()
    if layout.label_bytes:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    names = _unpickled(path).get(layout.names)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise ValueError(f"{path}: expected a list of names under the key {layout.names}, as CIFAR has")
    return tuple(_text(name) for name in names)


class _Array:
    """Stands for an array of bytes while a batch is unpickled."""

    content = b""

    def __init__(self, *ignored: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, content = state
        if not isinstance(dtype, _Dtype) or fortran_order or not isinstance(content, bytes):
            raise TypeError("an array of other numbers than bytes, row by row")
        if not isinstance(shape, tuple) or shape[1:] != (PIXELS,):
            raise TypeError("an array of another shape than (N, 3072)")
        self.content = content


class _Dtype:
    """Stands for the dtype of bytes, whose state (their order and the like) does not matter."""

    def __init__(self, code: Any, *flags: object) -> None:
        if code not in ("u1", b"u1"):
            raise TypeError("an array of other numbers than bytes")

    def __setstate__(self, state: Any) -> None:
        pass


# NumPy's names for these, up to version 1 and from version 2 on.
ALLOWED = {"numpy.ndarray": _Array, "numpy.dtype": _Dtype} | dict.fromkeys(
    ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), _Array
)


def _unpickled(path: Path) -> Mapping[str, Any]:
    """The dictionary in a pickle, with its keys as text."""
    try:
        found = unpickling.loads(path.read_bytes(), ALLOWED)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a pickled dictionary, as CIFAR has, got another object")
    return {_text(key): value for key, value in found.items()}


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
