"""Images of one size from a folder or a zip of any: found, sorted into classes, decoded side by side.

docs/images.md says what is read, and how.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ImageOps
from PIL.Image import Resampling

from ..wording import in_words, printable
from .classes import class_names_of, empty_classes, labels_of, train_and_held_out
from .decoding import FORMATS, MAX_BYTES, Header, decode, inspect
from .errors import DamagedImage, damage_of
from .listing import ImageFile, Listing, list_folder, on_disk
from .options import ImageOptions
from .zips import list_zip

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
CHUNK = 16  # files for a thread at a time: handed over one by one, small ones would take half as long again
Report = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageFolder:
    """Images (N, H, W, C) uint8, and their labels (N,) int64, which index `class_names`; None without classes.

    held_images, held_labels: the same of the part to be held out, or None. left_out: what was left out of the folder
    and why, in words, or "".
    """

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    held_images: np.ndarray | None
    held_labels: np.ndarray | None
    left_out: str


def read_folder(path: Path, options: ImageOptions, report: Report) -> ImageFolder:
    """The images at any depth of the folder, or in the zip, at `path`, in the natural order of their paths.

    The folders directly below are the classes; where they are called train, test and val, they are parts, and the
    classes lie in them. C is 1 where all images are grey, else 3. report(done, total) is called as images are decoded.

    Raises ValueError where there are no images, where they lie both in folders and beside, or have different sizes
    without `options.size`; DamagedImage for one that cannot be read, without `options.skip_damaged`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: those files are refused or left out in words of our own
        listing = list_folder(path) if path.is_dir() else list_zip(path)
        headers = _headers(path, listing, options)
        train, held_out, index = train_and_held_out([*headers])
        # What does not fit is refused before the work.
        labels_of(held_out, index, class_names_of(train, index))
        shape = _shape(headers, options)

        def read(files: list[ImageFile], before: int) -> tuple[np.ndarray | None, list[ImageFile]]:
            if not files:
                return None, []
            images = np.empty((len(files), *shape), np.uint8)
            decoded = _decode_into(
                images, files, options, lambda done, _: report(before + done, len(headers))
            )
            return _without_damaged(images, files, decoded, listing)

        (images, train), (held_images, held_out) = read(train, 0), read(held_out, len(train))
    if images is None or not train:
        raise ValueError(f"{printable(str(path))}: expected images, found only {in_words(listing.left_out)}")
    class_names = class_names_of(train, index)
    for folder in empty_classes(listing.folders, train, index) if class_names else ():
        listing.leave_out("empty", f"{folder}/")
    return ImageFolder(
        images,
        labels_of(train, index, class_names),
        class_names,
        held_images if held_out else None,
        labels_of(held_out, index, class_names) if held_out else None,
        in_words(listing.left_out),
    )


def read_image(path: Path, options: ImageOptions = ImageOptions()) -> np.ndarray:
    """The image as (H, W, 1) or (H, W, 3) uint8, read as those of a folder are; DamagedImage where it cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grey = options.grey if options.grey or options.colour else None
        return _pixels(on_disk(path.parent, (path.name,)), options, grey)


def _decode_into(
    out: np.ndarray, files: Sequence[ImageFile], options: ImageOptions, report: Report
) -> np.ndarray:
    """Decode the images into the rows of `out` (N, H, W, C) uint8; which of them could be decoded, (N,) bool.

    C = 1 converts to grey. report(done, N) is called as images are decoded. Raises DamagedImage for one that cannot be,
    without `options.skip_damaged`, and ValueError for one of other sides than those of `out`, without `options.size`.
    """
    decoded = np.ones(len(files), bool)

    def decode_one(index: int) -> ValueError | None:
        file = files[index]
        try:
            pixels = _pixels(file, options, grey=out.shape[3] == 1)
        except DamagedImage as error:
            return error
        if pixels.shape != out.shape[1:]:  # turned by EXIF, where the others are not
            found, expected = ((shape[1], shape[0]) for shape in (pixels.shape, out.shape[1:]))
            return _of_other_size(file, found, expected, min(expected))
        out[index] = pixels
        return None

    for index, error in enumerate(_in_parallel(decode_one, range(len(files)))):
        decoded[index] = error is None
        if error and not (options.skip_damaged and isinstance(error, DamagedImage)):
            raise error
        report(index + 1, len(files))
    return decoded


def _headers(path: Path, listing: Listing, options: ImageOptions) -> dict[ImageFile, Header]:
    """What each image says of itself; the rest is left out."""
    headers = {}
    for file in listing.files:
        header = _header(file)
        if isinstance(header, Header):
            headers[file] = header
        elif header is None:
            listing.leave_out(f"not {FORMATS}", file.name)
        elif options.skip_damaged:
            listing.leave_out("damaged", file.name)
        else:
            raise header
    for file, header in headers.items():
        if header.animated:
            listing.leave_out("of several frames or pages, of which the first is taken", file.name)
    if not headers:
        found = in_words(listing.left_out) or "none"
        raise ValueError(f"{printable(str(path))}: expected images ({FORMATS}), found {found}")
    return headers


def _header(file: ImageFile) -> Header | DamagedImage | None:
    """None for what is not an image and does not claim to be one by its name."""
    named_as_image = file.name.lower().endswith(ENDINGS)
    if file.size > MAX_BYTES and not named_as_image:
        return None
    try:
        with _opened(file) as stream:
            header = inspect(stream)
            if header is None and named_as_image:
                raise ValueError(f"it is not {FORMATS}")
            return header
    except DamagedImage as error:
        return error


@contextmanager
def _opened(file: ImageFile) -> Iterator[BinaryIO]:
    """The file, opened; what is raised while it is read is DamagedImage, but OSError where it cannot be opened."""
    if file.size > MAX_BYTES:
        raise DamagedImage(f"{printable(file.path)}: expected an image of at most {MAX_BYTES >> 20} MB")
    with file.open() as stream, damage_of(file.path):
        yield stream


def _shape(headers: dict[ImageFile, Header], options: ImageOptions) -> tuple[int, int, int]:
    """(H, W, C) of all images; ValueError where they are to be taken as they are, and are not of one size."""
    grey = options.grey or (not options.colour and all(header.grey for header in headers.values()))
    width, height = options.width_and_height() or _common_size(headers, options)
    return height, width, 1 if grey else 3


def _common_size(headers: dict[ImageFile, Header], options: ImageOptions) -> tuple[int, int]:
    sides = [(header.width, header.height) for header in headers.values()]
    for file, found in zip(headers, sides, strict=True):
        if sorted(found) != sorted(sides[0]):  # some may have to be turned
            raise _of_other_size(file, found, sides[0], median(map(min, sides)))
    for file in headers if len({*sides[0]}) > 1 else ():
        try:
            with _opened(file) as stream:
                return decode(stream.read()).size
        except DamagedImage:
            if not options.skip_damaged:
                raise
    return sides[0]


def _of_other_size(
    file: ImageFile, found: tuple[int, int], expected: tuple[int, int], side: float
) -> ValueError:
    """side: a usual one of the images' shorter sides."""
    advised = max((power for power in (8, 16, 32, 64) if power <= side), default=int(side))
    return ValueError(
        f"{printable(file.path)}: expected {expected[0]}×{expected[1]} pixels as images before it have, "
        f"got {found[0]}×{found[1]}; --size {advised} reduces all to one size"
    )


def _pixels(file: ImageFile, options: ImageOptions, grey: bool | None) -> np.ndarray:
    """An image of `options.size`, if that is given, (H, W, C) uint8. grey: whether in one channel; None: as it is."""
    with _opened(file) as stream:
        image = decode(stream.read())
        if grey is not None:
            image = image.convert("L" if grey else "RGB")
        if size := options.width_and_height():
            image = ImageOps.fit(image, size, Resampling.LANCZOS)
        pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _without_damaged(
    images: np.ndarray, files: list[ImageFile], decoded: np.ndarray, listing: Listing
) -> tuple[np.ndarray, list[ImageFile]]:
    """The images that were decoded, moved together where they lie, and their files."""
    kept = np.flatnonzero(decoded)
    for row, index in enumerate(kept):
        if row != index:
            images[row] = images[index]
    for index in np.flatnonzero(~decoded):
        listing.leave_out("damaged", files[index].name)
    return images[: len(kept)], [files[index] for index in kept]


def _in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """function(item) for each, in order; Pillow lets go of the interpreter while it decodes."""
    pool = ThreadPoolExecutor(min(8, getattr(os, "process_cpu_count", os.cpu_count)() or 1))
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    try:
        yield from chain.from_iterable(pool.map(lambda chunk: [*map(function, chunk)], chunks))
    finally:
        pool.shutdown(cancel_futures=True)
