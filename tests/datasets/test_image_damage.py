"""Images that are refused: damage, claims, other formats, and what does not say how it looks."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from image_examples import (
    FORMATS,
    chunk,
    encoded,
    linear_grey_profile,
    photograph,
    png,
    swapped_profile,
)
from image_mutants import mutants
from PIL import Image

from minidiff.datasets.image_files import DamagedImage, read_image
from minidiff.datasets.image_files.decoding import MAX_PIXELS, decode, inspect

RNG = np.random.default_rng(0)


def f32_tiff():
    return encoded(Image.fromarray(np.ones((2, 2), np.float32)), "tif")


def i32_tiff():
    return encoded(Image.fromarray(np.ones((2, 2), np.int32)), "tif")


def with_scans(count):
    """A progressive JPEG, its last scan written several times."""
    content = encoded(photograph(RNG, 16, 16, "L"), "jpg", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


def bmp_with_profile():
    header = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(16) + b"DEBM"
    return b"BM" + struct.pack("<IHHI", 142, 0, 0, 138) + header.ljust(124, b"\0") + bytes(4)


GREY = Image.new("L", (4, 4), 7)
COLOUR = GREY.convert("RGB")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f32_tiff(), "floating-point"),
        (i32_tiff(), "signed, 32-bit"),
        (encoded(GREY, "tif", tiffinfo={339: 2}), "signed"),
        (b"Pf 1 1 -1.0\n\0\0\0\0", "not PNG"),
        (bmp_with_profile(), "profile, which is not read from BMP"),
        (png(1, 1, 16, 2, b"\0" * 7, chunk(b"tRNS", b"\0" * 6)), "transparent colour has 16 bits"),
        (png(2, 1, 8, 3, b"\0\0\1"), "no palette"),
        (png(2, 1, 8, 3, b"\0\0\2", chunk(b"PLTE", b"\0" * 6)), "palette lacks colours"),
        (png(2, 3, 8, 0, b"\0\0\1" * 2), "lacks rows"),
        (png(5, 5, 8, 0, b"\0" * 30, interlaced=True), "lacks rows"),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"gAMA", struct.pack(">I", 100_000))), "gamma .1."),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"cHRM", struct.pack(">8I", *[31_000] * 8))), "primaries"),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"iCCP", b"x\0\0nothing")), "profile is damaged"),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nothing"))), "cannot open profile"),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 24)))), "cannot be read"),
        (png(1, 1, 8, 0, b"\0\1", chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 24)))), "cannot be read"),
        (encoded(COLOUR, "jpg", icc_profile=bytes(5 << 20)), "longer than 4 MB"),
        (encoded(COLOUR.convert("CMYK"), "jpg", icc_profile=swapped_profile()), "CMYK, but .* is for RGB"),
        (encoded(COLOUR, "png", icc_profile=linear_grey_profile()), "RGB, but its colour profile is for GRAY"),
        (encoded(GREY, "png")[:-1], "cut short"),
        (encoded(GREY, "png")[:-12], "cut short"),
        (encoded(GREY, "png")[:8], "cannot be read"),
        (with_scans(101), "more than 100 scans"),
        (b"", "not PNG"),
        (b"hello", "not PNG"),
    ],
)  # fmt: skip
def test_what_does_not_say_how_it_looks_is_refused(tmp_path, content, message):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DamagedImage, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("ending", ["ico", "tga", "pcx", "sgi", "dds", "jp2", "eps", "xbm", "msp", "qoi"])
def test_formats_that_pillow_could_open_besides_are_not_images_here(tmp_path, ending):
    modes = {"eps": "L", "xbm": "1", "msp": "1", "dds": "RGB", "qoi": "RGB"}
    names = {"jp2": "JPEG2000", "ico": "ICO"}
    stream = io.BytesIO()
    try:
        GREY.resize((32, 32)).convert(modes.get(ending, "L")).save(stream, names.get(ending, ending.upper()))
    except (KeyError, OSError):
        pytest.skip("Pillow was built without this format")
    assert inspect(io.BytesIO(stream.getvalue())) is None
    with pytest.raises(ValueError, match="it is not PNG"):
        decode(stream.getvalue())


def psd():
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 1, 1, 8, 1) + bytes(14) + b"\7"


@pytest.mark.parametrize("content", [psd(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>"])
def test_documents_are_not_images(content):
    assert inspect(io.BytesIO(content)) is None


# Claims, and damage of any kind


def claiming(ending, width, height):
    """A small image whose header has these sides instead of its own 16 × 16."""
    content = encoded(photograph(RNG, 16, 16), ending)
    if ending == "ppm":
        return content.replace(b"16 16", f"{width} {height}".encode())
    if ending == "png":
        header = struct.pack(">II", width, height) + content[24:29]
        return content[:8] + chunk(b"IHDR", header) + content[33:]
    if ending == "webp":
        at = content.index(b"\x9d\x01\x2a") + 3
        return content[:at] + struct.pack("<HH", width, height) + content[at + 4 :]
    if ending == "jpg":
        at = content.index(b"\xff\xc0") + 5
        return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    if ending == "tif":
        for tag, side in ((256, width), (257, height)):
            at = content.index(struct.pack("<HHI", tag, 4, 1)) + 8  # an entry of one number of 32 bits
            content = content[:at] + struct.pack("<I", side) + content[at + 4 :]
        return content
    at, form = {"bmp": (18, "<II"), "gif": (6, "<HH")}[ending]
    return content[:at] + struct.pack(form, width, height) + content[at + struct.calcsize(form) :]


@pytest.mark.parametrize("ending", FORMATS)
def test_more_than_64_million_pixels_are_refused_before_they_are_decoded(ending):
    assert inspect(io.BytesIO(claiming(ending, 8000, 8000))) is not None
    tracemalloc.start()
    for sides in ((8000, 8001), (16000, 16000)):
        with pytest.raises(ValueError, match="claims more than 64 million pixels"):
            decode(claiming(ending, *sides))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 and MAX_PIXELS == 64_000_000


@pytest.mark.parametrize("ending", FORMATS)
def test_a_damaged_image_is_read_or_refused_in_one_line(tmp_path, ending):
    for number, content in enumerate(mutants(ending, 200)):
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(content)
        try:
            pixels = read_image(path)
        except DamagedImage as error:
            assert str(error).isprintable() and len(str(error)) <= 300 and str(path) in str(error)
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3)
