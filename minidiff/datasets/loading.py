"""Data sets by name or by path, and images and masks to be edited by a trained network."""

from pathlib import Path

import numpy as np

from . import idx, image_files, numpy_files
from .dataset import Dataset, Units, from_raw
from .distributions import DISTRIBUTIONS, draw
from .image_files import ImageOptions

NAMES = {
    "mixture1d": "a 1-D mixture of three narrow Gaussians (100 000 points)",
    "s-curve": "an S-shaped curve in the plane (100 000 points)",
    "moons": "two interlocking half circles in the plane (100 000 points)",
    "swiss-roll": "a spiral in the plane (100 000 points)",
    "checkerboard": "the eight dark squares of a 4 × 4 checkerboard (100 000 points)",
    "digits": "handwritten digits, 8 × 8 pixels, ten classes (1797 images, included)",
}
POINTS, HELD_OUT_POINTS = 100_000, 10_000
DIGITS = Path(__file__).with_name("digits.npz")


class UnknownDataset(ValueError):
    """`load` was given what is neither a name in `NAMES` nor a path."""


def load(source: str | Path, seed: int = 0) -> Dataset:
    """The data set with the name `source` (see `NAMES`), or else that in the file or folder of this path.

    A path leads to IDX images (as of MNIST; labels are found beside them) or a folder of such, a `.npy` or `.npz`
    file, or a folder of PNG or JPEG images. `seed` determines the points drawn from a distribution, and the 10 000
    held out. Of any other data a fixed fraction is held out, balanced over the classes: 20 % of the digits, the t10k
    file where a folder has train and t10k, else 10 %.

    Raises UnknownDataset for what is neither a name nor looks like a path, FileNotFoundError for a path where there is
    nothing, and ValueError for data that cannot be used; each message is one line.
    """
    name = str(source)
    if name in DISTRIBUTIONS:
        rng, held_out_rng = np.random.default_rng(seed).spawn(2)
        return from_raw(name, draw(name, POINTS, rng), held_out=draw(name, HELD_OUT_POINTS, held_out_rng))
    if name == "digits":
        return from_raw(name, *numpy_files.read_npz(DIGITS), held_out_fraction=0.2, limits=(0, 16))
    path = Path(source).expanduser()
    if path.is_dir() and name:
        return _load_folder(name, path)
    if path.is_file():
        return _load_file(name, path)
    if any(mark in name for mark in "/\\.~"):
        raise FileNotFoundError(
            f"{name}: no such file or folder; expected the path of data, or one of {', '.join(NAMES)}"
        )
    raise UnknownDataset(
        f"no data set is called {name!r}; expected one of {', '.join(NAMES)}, or the path of a file or folder"
    )


def _load_folder(name: str, folder: Path) -> Dataset:
    train, held_out = idx.find_images(folder)
    if train is None:
        found = image_files.read_folder(folder, ImageOptions(), lambda done, total: None)
        return from_raw(
            name,
            found.images,
            found.labels,
            held_out=found.held_images,
            held_out_labels=found.held_labels,
            limits=(0, 255),
        )
    images, labels = idx.read_images_and_labels(train)
    if held_out is None:
        return from_raw(name, images, labels, limits=(0, 255))
    held_images, held_labels = idx.read_images_and_labels(held_out)
    return from_raw(name, images, labels, held_out=held_images, held_out_labels=held_labels, limits=(0, 255))


def _load_file(name: str, path: Path) -> Dataset:
    with path.open("rb") as file:
        head = file.read(6)
    if head == numpy_files.NPY_MAGIC:
        return from_raw(name, numpy_files.read_npy(path))
    if head.startswith(numpy_files.ZIP_MAGIC):
        return from_raw(name, *numpy_files.read_npz(path))
    if head.startswith((idx.GZIP_MAGIC, b"\0\0")):
        return from_raw(name, *idx.read_images_and_labels(path), limits=(0, 255))
    found = f"a file that begins with {head!r}" if head else "an empty file"
    raise ValueError(
        f"{name}: expected IDX (gz or not), .npy or .npz, or a folder of PNG or JPEG images, got {found}"
    )


def read_images(source: str | Path, units: Units, shape: tuple[int, ...]) -> np.ndarray:
    """Images (N, H, W, C) float32 in the network's range, of the given shape (H, W, C), to be edited by a network.

    From `.npy` or `.npz` (as `minidiff sample` writes it) in the units of the data, or from one PNG or JPEG image or a
    folder of such, whose 0…255 are mapped to [−1, 1]. Raises FileNotFoundError where there is nothing, and ValueError
    for what is not an image, has another shape, or has values beyond the data's range.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{source}: no such file or folder; expected images in .npy, .npz, PNG or JPEG"
        )
    in_bytes = path.is_dir() or path.suffix.lower() in image_files.ENDINGS
    if path.is_dir():
        raw = image_files.read_folder(path, ImageOptions(), lambda done, total: None).images
    elif in_bytes:
        raw = image_files.read_image(path)[None]
    else:
        raw = numpy_files.read_npz(path)[0] if path.suffix == ".npz" else numpy_files.read_npy(path)
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


def read_mask(source: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) of bools from `.npy` (bools, or 0 and 1, or 0 and 255) or a PNG or JPEG image (True where light).

    Raises FileNotFoundError where there is no file, and ValueError for what is not a mask or has another size.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such file; expected a mask in .npy, PNG or JPEG")
    if path.suffix.lower() in image_files.ENDINGS:
        mask: np.ndarray = image_files.read_image(path).mean(axis=2) > 127
    else:
        raw = numpy_files.read_npy(path)
        if not np.isin(raw, (0, raw.max())).all() or raw.max() not in (0, 1, 255):
            raise ValueError(f"{source}: expected a mask of bools, 0 and 1, or 0 and 255; got other numbers")
        mask = raw != 0
    if mask.shape != shape:
        raise ValueError(f"{source}: expected a mask of {shape[0]} × {shape[1]} pixels, got {mask.shape}")
    return mask
