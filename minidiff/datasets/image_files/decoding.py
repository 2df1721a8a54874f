"""One image: its format by its content, its size before anything is decoded, its pixels as a viewer shows them."""

import io
import re
import struct
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from .colours import as_shown, is_grey
from .png import check_png

MAX_PIXELS = 64_000_000
TOO_LARGE = f"it claims more than {MAX_PIXELS // 10**6} million pixels"
MAX_BYTES = 8 * MAX_PIXELS + (1 << 20)  # four channels of 16 bits, and what is said of them
MAX_SCANS = 100
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of JPEG, but those that may lie in the pixels of a scan
LARGE, ONE_AT_A_TIME = 16_000_000, threading.Lock()  # pixels; several such would take gigabytes side by side
FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF or PPM"
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # their lengths, one for each version
# A colour space of the last of them that is a profile: embedded, or in a file.
BMP_PROFILES = (b"DEBM", b"KNIL")
ORIENTATION = 274  # the tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What an image says of itself: its sides as stored, not yet turned; whether it is grey, and has more frames."""

    width: int
    height: int
    grey: bool
    animated: bool


def inspect(stream: BinaryIO) -> Header | None:
    """What the image in `stream` says of itself, or None for content of another format. Nothing is decoded."""
    kind = _format(stream.read(32))
    if kind is None:
        return None
    image = _opened(stream, kind)
    # Beside the image, a JPEG of a phone has others of it: a smaller one, its depth.
    return Header(*image.size, is_grey(image), kind != "JPEG" and getattr(image, "is_animated", False))


def decode(content: bytes) -> Image.Image:
    """The image in `content`, its first frame or page, turned as EXIF says: "L" where it is grey, else "RGB".

    Raises ValueError for more than 64 million pixels, before they are decoded, for a PNG that is not whole, and as
    `as_shown` does; on damaged content Pillow raises exceptions of any kind.
    """
    kind = _format(content[:32])
    if kind is None:
        raise ValueError(f"it is not {FORMATS}")
    image = _opened(io.BytesIO(content), kind)
    if kind == "PNG":
        check_png(content)
    if kind == "JPEG":
        _check_scans(content)
    if kind == "BMP" and content[70:74] in BMP_PROFILES and content[14] == BMP_HEADERS[-1]:
        raise ValueError("it has a colour profile, which is not read from BMP")
    with ONE_AT_A_TIME if image.width * image.height > LARGE else nullcontext():
        shown = as_shown(image)
        # Only now: EXIF may follow the pixels of a PNG, and Pillow has turned a TIFF already.
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        return shown if turn is None else shown.transpose(turn)


def _format(head: bytes) -> str | None:
    """Pillow's name of the format of a file that begins like this, if it is one of those that are read."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in BMP_HEADERS:
        return "BMP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if re.match(rb"P[1-6]\s+[0-9#]", head):
        return "PPM"
    return None


def _check_scans(content: bytes) -> None:
    """Refuses a JPEG of very many scans. Each may take as long as all pixels do, and no more than a few bytes."""
    index, scans = 2, 0
    while (marker := MARKER.search(content, index)) and marker[0] != b"\xff\xd9":
        index = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        scans += marker[0] == b"\xff\xda"
        if scans > MAX_SCANS:
            raise ValueError(f"it has more than {MAX_SCANS} scans")


def _opened(stream: BinaryIO, kind: str) -> ImageFile:
    stream.seek(0)
    try:
        image = Image.open(stream, formats=(kind,))
    except UnidentifiedImageError:
        raise ValueError(f"its header is not that of {kind}") from None
    except Image.DecompressionBombError:  # at twice Pillow's own limit, which is higher than ours
        raise ValueError(TOO_LARGE) from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(TOO_LARGE)
    return image
