"""Images of any number, some at a time, as bytes: those of a data set, and drawn ones in an `.npz` or a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import numpy_files
from .image_files import ENDINGS, read_image
from .image_files.listing import list_folder
from .samples import Samples
from .units import Units

BLOCK = 256  # images at a time


class Images(NamedTuple):
    """Some images of one size, (n, H, W, 1 or 3) uint8, and how an error calls each of them."""

    names: list[str]
    pixels: np.ndarray


class ImageStream(NamedTuple):
    """How many images there are, and their blocks."""

    total: int
    blocks: Iterator[Images]


def as_bytes(images: np.ndarray) -> np.ndarray:
    """The images, clipped to [−1, 1], as the nearest of 256 levels."""
    levels: np.ndarray = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    return levels


def of_samples(samples: Samples, order: np.ndarray, name: str) -> ImageStream:
    """The images of a data set at these indices."""

    def blocks() -> Iterator[Images]:
        for start in range(0, len(order), BLOCK):
            index = order[start : start + BLOCK]
            yield Images([f"{name} {i}" for i in index], as_bytes(samples[index]))

    return ImageStream(len(order), blocks())


def of_batches(batches: Iterable[np.ndarray], count: int) -> ImageStream:
    """Images as they are drawn, in the network's range."""

    def blocks() -> Iterator[Images]:
        drawn = 0
        for batch in batches:
            yield Images([f"sample {drawn + i}" for i in range(len(batch))], as_bytes(batch))
            drawn += len(batch)

    return ImageStream(count, blocks())


def of_path(path: Path, units: Units) -> ImageStream:
    """Drawn images: a folder, at any depth, in the natural order of the paths, or an `.npz` as `sample` writes it.

    In the `.npz` bytes are taken as they are, other numbers in the data's own units. Raises FileNotFoundError where
    there is nothing, and ValueError, here or as blocks are taken, for what is neither or cannot be read.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected drawn images")
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected a folder of images, or an .npz with an array of them")
    return _of_npz(path, units)


def _of_folder(path: Path) -> ImageStream:
    files = [Path(file.path) for file in list_folder(path).files if file.name.lower().endswith(ENDINGS)]
    if not files:
        raise ValueError(f"{path}: expected images, found none")

    def blocks() -> Iterator[Images]:
        """Neighbours of one shape together."""
        block: list[np.ndarray] = []
        for number, file in enumerate(files):
            pixels = read_image(file)
            if block and (pixels.shape != block[0].shape or len(block) == BLOCK):
                yield Images([str(file) for file in files[number - len(block) : number]], np.stack(block))
                block = []
            block.append(pixels)
        yield Images([str(file) for file in files[-len(block) :]], np.stack(block))

    return ImageStream(len(files), blocks())


def _of_npz(path: Path, units: Units) -> ImageStream:
    shape, stored = numpy_files.npz_blocks(path, BLOCK)
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)):
        raise ValueError(f"{path}: expected images (N, H, W, C) of 1 or 3 channels, got an array {shape}")

    def blocks() -> Iterator[Images]:
        start = 0
        for block in stored:
            names = [f"{path}: image {start + i} (counted from 0)" for i in range(len(block))]
            block = block.reshape(*block.shape[:3], -1)
            yield Images(names, block if block.dtype == np.uint8 else _from_units(block, units, names))
            start += len(block)

    return ImageStream(shape[0], blocks())


def _from_units(block: np.ndarray, units: Units, names: list[str]) -> np.ndarray:
    images = units.from_units(block)
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(f"{names[int(np.argmin(finite))]}: expected finite numbers, got NaN or infinity")
    if np.mean(np.abs(images) > 1.01) > 0.5:  # some samplers leave the range by a little, and seldom
        low, high = units.to_units(np.array([-1.0, 1.0]))
        raise ValueError(
            f"{names[0]}: expected values in the data's range, {low:g}…{high:g}, got {block.min():g}…{block.max():g}"
        )
    return as_bytes(images)
