"""Image files of all formats and kinds of pixels, a folder of them, and what Pillow's plain pipeline makes of each."""

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

SRGB = ImageCms.createProfile("sRGB")
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF", "ppm": "PPM"}


def swapped_profile() -> bytes:
    """A profile in which red is sRGB's green, and green its red."""
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    return profile.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")


def linear_grey_profile() -> bytes:
    """A profile of grey whose levels are proportional to light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = b"\0" * 0 + tags + white + curve
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header = header.ljust(36, b"\0") + b"acsp" + b"\0" * 28 + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + body


def photograph(rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture with some grain, in one of Pillow's modes."""
    if mode == "I;16":
        grey = np.asarray(photograph(rng, width, height, "L")).astype(np.uint16)
        return Image.fromarray(grey << 8 | rng.integers(0, 256, grey.shape, dtype=np.uint16))
    bands = Image.fromarray(rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    if mode in ("RGBA", "CMYK"):
        return Image.merge(mode, bands.split())
    if mode == "LA":
        return Image.merge("LA", bands.split()[:2])
    return bands.convert("RGB").convert(mode)


def encoded(image: Image.Image, ending: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, FORMATS[ending], **options)
    return stream.getvalue()


def turned_by_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


# (ending, mode, options of `save`), for all that is read
KINDS = [
    *(("jpg", mode, {"quality": 90}) for mode in ("RGB", "L", "CMYK")),
    ("jpg", "RGB", {"quality": 90, "progressive": True}),
    *(("jpg", "RGB", {"exif": turned_by_exif(turn)}) for turn in range(1, 9)),
    *(("jpg", mode, {"icc_profile": swapped_profile()}) for mode in ("RGB", "L")),
    *(("png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("png", "RGB", {"exif": turned_by_exif(6)}),
    ("png", "RGB", {"icc_profile": swapped_profile()}),
    ("png", "L", {"icc_profile": linear_grey_profile()}),
    ("png", "P", {"transparency": 3}),
    ("png", "P", {"transparency": bytes(range(0, 256, 2))}),
    ("png", "L", {"transparency": 77}),
    ("png", "RGB", {"transparency": (10, 20, 30)}),
    *(("webp", mode, {"quality": 80}) for mode in ("RGB", "RGBA")),
    ("webp", "RGB", {"lossless": True, "exif": turned_by_exif(8)}),
    *(("bmp", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(("tif", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16")),
    *(("tif", "RGB", {"compression": packing}) for packing in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ("tif", "RGB", {"exif": turned_by_exif(5)}),
    ("gif", "L", {}),
    ("gif", "P", {}),
    ("gif", "P", {"transparency": 3}),
    *(("ppm", mode, {}) for mode in ("1", "L", "RGB")),
]
