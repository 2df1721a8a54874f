"""PNG and JPEG images: one, or a folder of images of one size; where they lie in sub-folders, each is a class."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG")
ENDINGS = (".png", ".jpg", ".jpeg")
# Pillow's 8-bit modes, and what each is converted to: grey, or colour without alpha.
CONVERSION = {"1": "L", "L": "L", "LA": "L"} | dict.fromkeys(("P", "RGB", "RGBA", "CMYK", "YCbCr"), "RGB")
# What Pillow raises on damaged or foreign files.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images in `folder` in the order of their names, and labels (N,) or None.

    The images are (N, H, W, 1) uint8, or (N, H, W, 3) where at least one is in colour. Labels number the sub-folders
    that hold images, in the order of their names. Raises ValueError when there are no images, when there are both
    images and sub-folders with images, and when one is damaged, of another size, or has more than 8 bits a channel.
    """
    flat = _images_in(folder)
    classes = [found for sub in sorted(folder.iterdir()) if sub.is_dir() and (found := _images_in(sub))]
    if flat and classes:
        raise ValueError(
            f"{folder}: expected images either here or in sub-folders (one for each class), got both"
        )
    if not flat and not classes:
        raise ValueError(
            f"{folder}: expected IDX files (…-images-idx3-ubyte[.gz]) or PNG or JPEG images, found none"
        )
    paths = flat or [path for found in classes for path in found]
    images = _stack(paths)
    if flat:
        return images, None
    return images, np.repeat(np.arange(len(classes)), [len(found) for found in classes])


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
    )


def _stack(paths: list[Path]) -> np.ndarray:
    images = []
    for path in paths:
        images.append(read_image(path))
        if images[-1].shape[:2] != images[0].shape[:2]:
            (h, w), (h0, w0) = images[-1].shape[:2], images[0].shape[:2]
            raise ValueError(
                f"{path}: expected {w0}×{h0} pixels as {paths[0].name} has, got {w}×{h}; resize all to one size"
            )
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images])


def read_image(path: Path) -> np.ndarray:
    """The image as (H, W, 1) or (H, W, 3) uint8; ValueError when it is damaged or has more than 8 bits a channel."""
    try:
        # Decoding alone accepts a PNG that is cut short or whose checksums are wrong.
        with Image.open(path, formats=FORMATS) as image:
            image.verify()
        with Image.open(path, formats=FORMATS) as image:
            mode = image.mode
            pixels = np.asarray(image.convert(CONVERSION.get(mode)))
    except DAMAGE as error:
        raise ValueError(
            f"{path}: expected a PNG or JPEG image, got a file that cannot be read ({error})"
        ) from error
    if mode not in CONVERSION:
        raise ValueError(f"{path}: expected an image of 8 bits a channel, got one of mode {mode}")
    return pixels.reshape(*pixels.shape[:2], -1)
