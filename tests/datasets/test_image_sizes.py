"""Images of one size from images of any: reduced, cut in the middle, grey or in colour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_examples import encoded, photograph, reduced, turned_by_exif
from image_sets import assert_refused, png, read, write
from PIL import Image

from minidiff.datasets.image_files import ImageOptions
from minidiff.options import OptionError

RNG = np.random.default_rng(0)


def test_equal_images_are_taken_as_they_are(tmp_path):
    pixels = RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8)
    found = read(
        write(tmp_path, {f"{i}.png": encoded(Image.fromarray(grey), "png") for i, grey in enumerate(pixels)})
    )
    np.testing.assert_array_equal(found.images[..., 0], pixels)


@pytest.mark.parametrize(("sides", "advised"), [((50, 40), 32), ((100, 400), 64), ((9, 8), 8), ((4, 5), 4)])
def test_images_of_other_sizes_are_refused_with_the_size_that_would_take_them(tmp_path, sides, advised):
    images = {f"{i}.png": png(i, side, side) for i, side in enumerate(sides)}
    assert_refused(
        write(tmp_path, images),
        f"1.png: expected {sides[0]}×{sides[0]} pixels .* got {sides[1]}×{sides[1]}; --size {advised} ",
    )
    assert read(tmp_path, size=str(advised)).images.shape == (2, advised, advised, 1)


def test_images_turned_by_exif_are_of_the_size_that_they_are_shown_in(tmp_path):
    upright = encoded(photograph(RNG, 20, 30), "jpg")
    turned = encoded(photograph(RNG, 30, 20), "jpg", exif=turned_by_exif(6))
    assert read(write(tmp_path, {"1.jpg": turned, "2.jpg": upright})).images.shape == (2, 30, 20, 3)
    write(tmp_path, {"3.jpg": encoded(photograph(RNG, 30, 20), "jpg")})
    assert_refused(tmp_path, "3.jpg: expected 20×30 pixels .* got 30×20; --size 16 ")


@given(*[st.integers(1, 40)] * 2, *[st.integers(1, 9)] * 2)
def test_an_image_covers_the_size_and_is_cut_in_the_middle(tmp_path_factory, width, height, columns, rows):
    folder = tmp_path_factory.mktemp("images")
    image = photograph(np.random.default_rng(width), width, height)
    found = read(write(folder, {"1.png": encoded(image, "png")}), size=f"{columns}x{rows}")
    np.testing.assert_array_equal(found.images[0], reduced(image, columns, rows))


def test_images_are_grey_where_all_are_unless_chosen_otherwise(tmp_path):
    grey, colour = photograph(RNG, 8, 8, "L"), photograph(RNG, 8, 8)
    write(tmp_path, {"1.png": encoded(grey, "png")})
    assert read(tmp_path).images.shape[3] == 1 and read(tmp_path, colour=True).images.shape[3] == 3
    write(tmp_path, {"2.png": encoded(colour, "png")})
    both = read(tmp_path).images
    np.testing.assert_array_equal(both[0], np.asarray(grey.convert("RGB")))
    np.testing.assert_array_equal(both[1], np.asarray(colour))
    np.testing.assert_array_equal(
        read(tmp_path, grey=True).images[1, ..., 0], np.asarray(colour.convert("L"))
    )


@pytest.mark.parametrize(
    "size", ["", "0", "-1", "32x", "x32", "32x0", "4097", "3.5", "32x32x3", "1e3", "٣٢", " 32", "\x1b"]
)
def test_what_is_no_size_is_refused(size):
    with pytest.raises(OptionError, match="size: expected") as caught:
        ImageOptions(size=size)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("size", "sides"), [("32", (32, 32)), ("48x32", (48, 32)), ("1×4096", (1, 4096)), (None, None)]
)
def test_a_size_is_one_side_or_width_and_height(size, sides):
    assert ImageOptions(size=size).width_and_height() == sides


def test_a_size_is_text():
    with pytest.raises(OptionError, match="size: expected text, got 32"):
        ImageOptions(size=32)


def test_grey_and_in_colour_at_once_is_refused():
    with pytest.raises(OptionError, match="expected one of them at most"):
        ImageOptions(grey=True, colour=True)
