"""Data sets by name or by path, and images and masks to be edited by a trained network."""

import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from minidiff.options import OptionError, given
from minidiff.progress import Progress

from . import cache, cifar, idx, image_files, numpy_files
from .dataset import Dataset, from_raw
from .distributions import DISTRIBUTIONS, draw
from .loading_options import LoadingOptions
from .stored import BYTES, Stored
from .units import Units

NAMES = {
    "mixture1d": "a 1-D mixture of three narrow Gaussians (100 000 points)",
    "s-curve": "an S-shaped curve in the plane (100 000 points)",
    "moons": "two interlocking half circles in the plane (100 000 points)",
    "swiss-roll": "a spiral in the plane (100 000 points)",
    "checkerboard": "the eight dark squares of a 4 × 4 checkerboard (100 000 points)",
    "digits": "handwritten digits, 8 × 8 pixels, ten classes (1797 images, included)",
}
POINTS, HELD_OUT_POINTS = 100_000, 10_000
PATIENCE = 2.0  # seconds of decoding without a bar
DIGITS = Path(__file__).with_name("digits.npz")


class UnknownDataset(ValueError):
    """`load` was given what is neither a name in `NAMES` nor a path."""


def load(
    source: str | Path,
    seed: int = 0,
    options: LoadingOptions = LoadingOptions(),
    cache_folder: Path | None = None,
) -> Dataset:
    """The data set with the name `source` (see `NAMES`), or else that in the file or folder of this path.

    A path leads to a folder or zip of images, to IDX images (as of MNIST; labels are found beside them) or a folder of
    such, to CIFAR-10 or -100, or to a `.npy` or `.npz` file: docs/data.md has the forms. `seed` determines the points
    drawn from a distribution, and the 10 000 held out. Of any other data that has no part to hold out, nor
    `options.held_out`, a fixed fraction is, balanced over the classes: 20 % of the digits, else 10 %.

    cache_folder: from which decoded images are taken, if they are there and the same (`datasets.cache`).

    Raises UnknownDataset for what is neither a name nor looks like a path, FileNotFoundError for a path where there is
    nothing, OptionError for options that do not apply to the data, and other ValueErrors for data that cannot be used;
    each message is one line.
    """
    name = str(source)
    if name in NAMES:
        _check_options(name, options)
    if name in DISTRIBUTIONS:
        rng, held_out_rng = np.random.default_rng(seed).spawn(2)
        return from_raw(name, draw(name, POINTS, rng), held_out=draw(name, HELD_OUT_POINTS, held_out_rng))
    if name == "digits":
        digits = numpy_files.read_npz(DIGITS)
        return from_raw(name, digits.samples, digits.labels, held_out_fraction=0.2, limits=(0, 16))
    data, held_out = (cache_folder and cache_folder / file for file in (cache.DATA, cache.HELD_OUT))
    stored = _read(name, options, data)
    read = {cache.DATA: stored}
    if options.held_out is not None:
        read[cache.HELD_OUT] = _read(options.held_out, options, held_out)
        stored = _with_held_out(stored, read[cache.HELD_OUT], options.held_out)
    return replace(
        from_raw(
            name,
            stored.samples,
            stored.labels,
            held_out=stored.held_out,
            held_out_labels=stored.held_out_labels,
            limits=stored.limits,
            class_names=stored.class_names,
        ),
        left_out=stored.left_out,
        decoded={file: of_file for file, of_file in read.items() if of_file.key},
    )


def _read(source: str, options: LoadingOptions, cache_file: Path | None) -> Stored:
    """What the file or folder has. Raises as `load`."""
    path = Path(source).expanduser()
    if path.is_dir() and source:
        stored = idx.read_folder(path) or cifar.read_folder(path)
        if stored is not None:
            _check_options(source, options, "held_out")
            return stored
        return _read_images(source, path, options, cache_file)
    if path.is_file():
        return _read_file(source, path, options, cache_file)
    if any(mark in source for mark in "/\\.~"):
        raise FileNotFoundError(
            f"{source}: no such file or folder; expected the path of data, or one of {', '.join(NAMES)}"
        )
    raise UnknownDataset(
        f"no data set is called {source!r}; expected one of {', '.join(NAMES)}, or the path of a file or folder"
    )


def _read_file(name: str, path: Path, options: LoadingOptions, cache_file: Path | None) -> Stored:
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(numpy_files.ZIP_MAGIC) and not numpy_files.may_be_npz(path):
        return _read_images(name, path, options, cache_file)
    is_npy = head == numpy_files.NPY_MAGIC
    if is_npy or head.startswith(numpy_files.ZIP_MAGIC):
        _check_options(name, options, "held_out", "channels_first")
        stored = Stored(numpy_files.read_npy(path)) if is_npy else numpy_files.read_npz(path)
        return _channels_last(name, stored) if options.channels_first else stored
    _check_options(name, options, "held_out")
    if (stored_cifar := cifar.read_file(path)) is not None:
        return stored_cifar
    if head.startswith((idx.GZIP_MAGIC, b"\0\0")):
        return idx.read_file(path)
    found = f"a file that begins with {head!r}" if head else "an empty file"
    raise ValueError(
        f"{name}: expected a folder or zip of images, IDX (gz or not), CIFAR, .npy or .npz, got {found}"
    )


def _read_images(name: str, path: Path, options: LoadingOptions, cache_file: Path | None) -> Stored:
    """The images in a folder or zip."""
    _check_options(name, options, "held_out", *(about.name for about in fields(image_files.ImageOptions)))
    try:
        return cache.cached(cache_file, path, options, lambda: _decode(path, options))
    except image_files.DamagedImage as error:
        raise image_files.DamagedImage(f"{error}; --skip-damaged leaves such images out") from error


def _decode(path: Path, options: LoadingOptions) -> Stored:
    """The images in a folder or zip, decoded; a bar shows how far it is where that takes a while."""
    found = image_files.read_folder(path, options, _patient_bar())
    return Stored(
        found.images,
        found.labels,
        found.held_images,
        found.held_labels,
        BYTES,
        found.class_names,
        found.left_out,
    )


def _patient_bar() -> Callable[[int, int], None]:
    """A report(done, total) that shows a bar on stderr, once `PATIENCE` is over since it was first called."""
    bar: Progress | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Progress("image", sys.stderr, total)
        if time.monotonic() - bar.begin > PATIENCE:
            bar.update(done)
            if done == total:
                bar.finish()

    return report


def _check_options(name: str, options: LoadingOptions, *applicable: str) -> None:
    """Raises OptionError for options that were given and do not apply to this kind of data."""
    if others := [option.replace("_", "-") for option in given(options) if option not in applicable]:
        raise OptionError(
            f"{name}: --{', --'.join(others)} does not apply to this kind of data; leave it out"
        )


def _channels_last(name: str, stored: Stored) -> Stored:
    """The same images (N, C, H, W), seen as (N, H, W, C)."""
    if stored.samples.ndim != 4:
        raise OptionError(
            f"{name}: --channels-first takes images (N, C, H, W), got an array {stored.samples.shape}"
        )
    held_out = stored.held_out
    return replace(
        stored,
        samples=np.moveaxis(stored.samples, 1, -1),
        held_out=None if held_out is None or held_out.ndim != 4 else np.moveaxis(held_out, 1, -1),
    )


def _with_held_out(stored: Stored, other: Stored, source: str) -> Stored:
    """`stored` with the samples of `other` held out, in place of those that it has itself."""
    labels = other.labels
    if labels is not None and other.class_names != stored.class_names:
        if unknown := [name for name in other.class_names if name not in stored.class_names]:
            raise ValueError(f"{source}: the class {unknown[0]} is none of those to train on")
        index = [stored.class_names.index(name) for name in other.class_names]
        labels = np.array(index)[labels] if labels.max() < len(index) else labels
    left_out = [stored.left_out, other.left_out]
    if stored.held_out is not None:
        left_out.append(f"{len(stored.held_out)} samples of its own to hold out")
    if other.held_out is not None:
        left_out.append(f"{len(other.held_out)} samples that {source} has to hold out")
    return replace(
        stored, held_out=other.samples, held_out_labels=labels, left_out=", ".join(filter(None, left_out))
    )


def read_images(source: str | Path, units: Units, shape: tuple[int, ...]) -> np.ndarray:
    """Images (N, H, W, C) float32 in the network's range, of the given shape (H, W, C), to be edited by a network.

    From `.npy` or `.npz` (as `minidiff sample` writes it), of this shape and in the units of the data; or from an image
    or a folder of such, which are reduced as `train --size` does, and whose 0…255 are mapped to [−1, 1]. Raises
    FileNotFoundError where there is nothing, and ValueError for what is not an image, has another shape, or has values
    beyond the data's range.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such file or folder; expected images, .npy or .npz")
    in_bytes = path.is_dir() or path.suffix.lower() in image_files.ENDINGS
    if in_bytes:
        raw = _reduced(path, shape)
    else:
        raw = numpy_files.read_npz(path).samples if path.suffix == ".npz" else numpy_files.read_npy(path)
    raw = raw[..., None] if raw.ndim == 3 else raw
    if raw.shape[1:] != shape:
        raise ValueError(f"{source}: expected images of shape {shape}, got {raw.shape[1:]}")
    images = (Units(127.5, 127.5) if in_bytes else units).from_units(raw)
    if not np.all(np.abs(images) <= 1 + 1e-5):  # NaN fails too
        low, high = units.to_units(np.array([[-1.0], [1.0]]) * np.ones(shape[-1]))[:, 0]
        raise ValueError(
            f"{source}: expected values in the data's range, {low:g}…{high:g}, got {raw.min():g}…{raw.max():g}"
        )
    return images


def _reduced(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The image, or those of the folder, as (N, H, W, 1) or (N, H, W, 3) uint8; shape: (H, W, C)."""
    height, width, channels = shape
    options = image_files.ImageOptions(f"{width}x{height}", grey=channels == 1, colour=channels != 1)
    if path.is_dir():
        return image_files.read_folder(path, options, lambda done, total: None).images
    return image_files.read_image(path, options)[None]


def read_mask(source: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) of bools from `.npy` (bools, or 0 and 1, or 0 and 255), or from an image (True where light).

    An image is reduced as those of `read_images` are. Raises FileNotFoundError where there is no file, and ValueError
    for what is not a mask, or an array of another size.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such file; expected a mask as an image or .npy")
    if path.suffix.lower() in image_files.ENDINGS:
        mask: np.ndarray = _reduced(path, (*shape, 1))[0, :, :, 0] > 127
    else:
        raw = numpy_files.read_npy(path)
        if not np.isin(raw, (0, raw.max())).all() or raw.max() not in (0, 1, 255):
            raise ValueError(f"{source}: expected a mask of bools, 0 and 1, or 0 and 255; got other numbers")
        mask = raw != 0
    if mask.shape != shape:
        raise ValueError(f"{source}: expected a mask of {shape[0]} × {shape[1]} pixels, got {mask.shape}")
    return mask
