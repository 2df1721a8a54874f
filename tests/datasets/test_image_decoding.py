"""One image: it is as Pillow's plain pipeline and a viewer have it, or it is refused."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_examples import KINDS, chunk, encoded, linear_grey_profile, photograph, plain, png, swapped_profile
from PIL import Image

from minidiff.datasets.image_files.decoding import decode, inspect

RNG = np.random.default_rng(0)


def kind_id(kind):
    ending, mode, options = kind
    return "-".join([ending, mode, *options])


def shown(content):
    return np.asarray(decode(content)).tolist()


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_every_kind_is_as_pillows_plain_pipeline_has_it(kind):
    ending, mode, options = kind
    content = encoded(photograph(RNG, 37, 23, mode), ending, **options)
    np.testing.assert_array_equal(np.asarray(decode(content).convert("RGB")), np.asarray(plain(content)))
    header = inspect(io.BytesIO(content))
    assert sorted((header.width, header.height)) == [23, 37] and not header.animated
    assert header.grey == (decode(content).mode == "L")


# Where a viewer shows more than Pillow gives by itself


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(8, 1, 1, 0, b"\0\x0f"), [[0, 0, 0, 0, 255, 255, 255, 255]]),
        (png(8, 1, 1, 0, b"\0\x0f", chunk(b"tRNS", b"\0\0")), [[255] * 8]),
        (png(4, 1, 2, 0, b"\0\x1b", chunk(b"tRNS", b"\0\1")), [[0, 255, 170, 255]]),
        (png(2, 1, 4, 0, b"\0\x3c", chunk(b"tRNS", b"\0\3")), [[255, 204]]),
        (png(2, 1, 8, 0, b"\0\x33\x44", chunk(b"tRNS", b"\0\x33")), [[255, 0x44]]),
        (png(2, 1, 16, 0, b"\0\x12\x34\x12\x35", chunk(b"tRNS", b"\x12\x34")), [[255, 0x12]]),
        (png(2, 1, 16, 4, b"\0\x12\x34\0\0\x12\x35\xff\xff"), [[255, 0x12]]),
        (png(2, 1, 8, 3, b"\0\0\1", chunk(b"PLTE", b"\5\5\5\7\7\7")), [[5, 7]]),
        (png(1, 1, 8, 0, b"\0\x55", chunk(b"gAMA", struct.pack(">I", 45455))), [[0x55]]),
        (b"P5 2 1 65535\n\x12\x34\xff\xff", [[0x12, 255]]),
        (b"P5 2 1 4095\n\x08\x00\x0f\xff", [[128, 255]]),
        (b"P5 2 1 100\n\x32\x64", [[128, 255]]),
        (b"P2\n# a remark\n2 1 255\n3 7", [[3, 7]]),
        (b"P1 3 1\n0 1 0", [[255, 0, 255]]),
    ],
)
def test_grey_levels_are_shown_over_white(content, expected):
    assert decode(content).mode == "L" and shown(content) == expected


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_a_tiff_in_which_white_is_zero_is_not_shown_as_its_negative(mode):
    image = photograph(RNG, 9, 7, mode)
    usual, inverted = (encoded(image, "tif", tiffinfo={262: zero}) for zero in (1, 0))
    assert Image.open(io.BytesIO(inverted)).tag_v2[262] == 0
    pixels = np.asarray(image)
    levels = pixels >> 8 if mode == "I;16" else pixels * (255 if mode == "1" else 1)
    np.testing.assert_array_equal(shown(usual), levels)
    # Pillow itself writes the negative for 1 and 8 bits, but 16 bits as they are.
    np.testing.assert_array_equal(shown(inverted), 255 - levels if mode == "I;16" else levels)


def tiff(data, width, **tags):
    """A TIFF of one row, its tags as numbers or tuples of such."""
    tags = {256: width, 257: 1, 259: 1, 273: 0, 278: 1, 279: len(data)} | {
        int(tag[1:]): tags[tag] for tag in tags
    }
    entries, beyond, start = b"", data, 14 + 12 * len(tags)
    tags[273] = start
    for tag, value in sorted(tags.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(numbers)}H", *numbers)
        if len(packed) > 4:
            packed, beyond = struct.pack("<I", start + len(beyond)), beyond + packed
        entries += struct.pack("<HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + beyond


PALETTE = (*range(0, 65536, 256), *[0] * 256, *[65535] * 256)  # all reds, then all greens, then all blues


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(b"\x12\x3f\xff", 2, t258=12, t262=1), [[0x12, 0xFF]]),
        (tiff(b"\x40\x80\x33\xff", 2, t258=(8, 8), t262=1, t277=2, t338=2), [[0x40 // 2 + 127, 0x33]]),
        (tiff(b"\x05\x06", 2, t258=8, t262=3, t320=PALETTE), [[[5, 0, 255], [6, 0, 255]]]),
        (
            tiff(b"\x05\x00\x06\xff", 2, t258=(8, 8), t262=3, t277=2, t320=PALETTE, t338=2),
            [[[255, 255, 255], [6, 0, 255]]],
        ),
    ],
    ids=["12 bits", "alpha", "palette", "palette with alpha"],
)
def test_kinds_of_tiff_that_pillow_does_not_write(content, expected):
    np.testing.assert_allclose(shown(content), expected, atol=1)


def test_premultiplied_opacity_is_honoured_or_refused_by_a_pillow_without_it():
    content = tiff(b"\x40\x80\xff\xff", 2, t258=(8, 8), t262=1, t277=2, t338=1)
    try:
        pixels = shown(content)
    except ValueError as error:
        assert "its header is not that of TIFF" in str(error)
    else:
        np.testing.assert_allclose(pixels, [[0x40 + 127, 0xFF]], atol=1)


PASSES = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 4, 8, 16]), st.booleans())
def test_a_png_needs_all_its_bytes_and_no_more(width, height, bits, interlaced):
    """By the table of the specification that has the pass of each pixel in a square of eight."""
    count = 0
    for number in "1234567" if interlaced else "*":
        for y in range(height):
            pixels = sum(number in ("*", PASSES[y % 8][x % 8]) for x in range(width))
            count += 1 + (pixels * bits + 7) // 8 if pixels else 0
    assert decode(png(width, height, bits, 0, bytes(count), interlaced=interlaced)).size == (width, height)
    with pytest.raises(ValueError, match="lacks rows"):
        decode(png(width, height, bits, 0, bytes(count - 1), interlaced=interlaced))


def test_further_images_of_a_phones_jpeg_are_no_frames():
    stream = io.BytesIO()
    photograph(RNG, 9, 9).save(stream, "MPO", save_all=True, append_images=[photograph(RNG, 5, 5)])
    content = stream.getvalue()
    assert decode(content).size == (9, 9) and not inspect(io.BytesIO(content)).animated


def test_colour_profiles_are_applied():
    red = Image.new("RGB", (1, 1), (200, 10, 30))
    for ending in ("png", "tif", "webp"):
        options = {"lossless": True} if ending == "webp" else {}
        content = encoded(red, ending, icc_profile=swapped_profile(), **options)
        np.testing.assert_allclose(shown(content)[0][0], [10, 200, 30], atol=1)
    grey = encoded(Image.new("L", (1, 1), 55), "png", icc_profile=linear_grey_profile())
    light = 55 / 255
    assert shown(grey)[0][0] == pytest.approx(255 * (1.055 * light ** (1 / 2.4) - 0.055), abs=1.5)
    grey = encoded(Image.new("L", (1, 1), 55), "png", icc_profile=swapped_profile())
    assert shown(grey)[0][0] == pytest.approx(55, abs=20) and decode(grey).mode == "L"


def test_transparent_colours_do_not_show():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = (9, 8, 7, 0), (9, 8, 7, 255), (0, 0, 0, 51)
    for ending, options in (("png", {}), ("webp", {"lossless": True, "exact": True}), ("tif", {})):
        content = encoded(Image.fromarray(pixels), ending, **options)
        assert shown(content) == [[[255] * 3, [9, 8, 7], [204] * 3]]
