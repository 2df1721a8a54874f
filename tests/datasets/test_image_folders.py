"""Folders and zips of images: what is found, in which class and order, what is left out, and what is refused."""

import os
import time

import numpy as np
import pytest
from image_examples import encoded, make_folder, photograph, plain, reduced
from image_sets import assert_refused, levels, png, read, write, write_zip
from PIL import Image

from minidiff import datasets
from minidiff.datasets import loading
from minidiff.datasets.image_files import DamagedImage

RNG = np.random.default_rng(0)


# In a folder and in a zip, the same


@pytest.fixture(params=["folder", "zip"])
def stored(request, tmp_path):
    """Writes files {name: content} into a folder or zip, and returns its path."""
    if request.param == "folder":
        return lambda files: write(tmp_path / "images", files)
    return lambda files: write_zip(tmp_path / "images.zip", files)


def test_images_lie_in_the_natural_order_of_their_paths(stored):
    found = read(stored({"b10.png": 1, "b9.png": 2, "a.png": 3, "B11.png": 4, "b010.png": 5, "b.png": 6}))
    assert levels(found.images) == [3, 2, 5, 1, 4, 6]
    assert found.labels is None and found.class_names == () and found.held_images is None
    assert found.left_out == "" and found.images.shape == (6, 2, 3, 1)


def test_folders_directly_below_are_classes_whatever_lies_deeper(stored):
    found = read(stored({"cat10/x.png": 1, "cat2/z/y/1.png": 2, "cat2/a.png": 3, "Dog/1.png": 4}))
    assert found.class_names == ("cat2", "cat10", "Dog")
    assert levels(found.images) == [3, 2, 1, 4] and found.labels.tolist() == [0, 0, 1, 2]
    assert found.labels.dtype == np.int64


def test_train_beside_test_or_val_are_parts_and_no_classes(stored):
    files = {"train/b/1.png": 1, "train/a/1.png": 2, "test/b/1.png": 3, "val/a/2.png": 4, "read.me": b"hello"}
    found = read(stored(files))
    assert found.class_names == ("a", "b")
    assert levels(found.images) == [2, 1] and found.labels.tolist() == [0, 1]
    assert levels(found.held_images) == [3, 4] and found.held_labels.tolist() == [1, 0]


def test_train_beside_another_folder_is_a_class(stored):
    found = read(stored({"train/1.png": 1, "bus/1.png": 2, "test/1.png": 3}))
    assert found.class_names == ("bus", "test", "train") and found.held_images is None


def test_test_and_val_without_train_are_classes(stored):
    assert read(stored({"test/1.png": 1, "val/1.png": 3})).class_names == ("test", "val")


def test_parts_without_classes_have_no_labels(stored):
    found = read(stored({"train/2.png": 1, "train/1.png": 2, "val/1.png": 3}))
    assert levels(found.images) == [2, 1] and found.labels is None and found.held_labels is None
    assert levels(found.held_images) == [3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"hello", ".b.png": 1}, r"found 1 hidden .*1 not PNG, JPEG"),
        ({"a.png": 1, "b/c.png": 2}, "got both, a.png and b/c.png"),
        ({"train/a.png": 1, "train/b/c.png": 2, "test/1.png": 3}, "got both, train/a.png and train/b/c.png"),
        ({"train/a/1.png": 1, "test/b/1.png": 2}, "one of the classes of train/"),
        ({"train/a/1.png": 1, "test/1.png": 2}, "one of the classes of train/"),
        ({"train/1.png": 1, "test/a/1.png": 2}, "no classes, as in train/"),
    ],
)
def test_folders_that_are_no_set_of_images_are_refused(stored, files, message):
    assert_refused(stored(files), message)


def test_what_is_left_out_is_counted_and_named(stored):
    files = {
        "cat/1.png": 1,
        "cat/.hidden.png": b"whatever",
        "cat/._1.png": b"whatever",
        ".ipynb_checkpoints/cat/1.png": 1,
        "__MACOSX/cat/1.png": 1,
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "cat/desktop.ini": b"x",
        "dog/notes.txt": b"hello",
        "cat/notes.md": b"BMW and GIF8, P5",
        "cat/icon.ico": encoded(Image.new("L", (8, 8)), "ico"),
        "cat/2.png": b"not an image",
        "cat/3.jpg": encoded(photograph(RNG, 3, 2), "jpg")[:-30],
        "cat/4.gif": encoded(
            Image.new("L", (3, 2), 9), "gif", save_all=True, append_images=[Image.new("L", (3, 2), 200)]
        ),
    }
    found = read(stored(files), skip_damaged=True)
    assert found.class_names == ("cat",) and levels(found.images) == [1, 9]
    assert found.left_out == (
        "6 hidden (.ipynb_checkpoints, __MACOSX, cat/._1.png, cat/.hidden.png, cat/desktop.ini, …), "
        "2 damaged (cat/2.png, cat/3.jpg), "
        "3 not PNG, JPEG, WebP, BMP, TIFF, GIF or PPM (cat/icon.ico, cat/notes.md, dog/notes.txt), "
        "1 of several frames or pages, of which the first is taken (cat/4.gif), 1 empty (dog/)"
    )
    assert_refused(stored(files), r"2.png.*cannot be read \([^;]*$")
    with pytest.raises(DamagedImage, match=r"2.png.*cannot be read .*; --skip-damaged leaves"):
        datasets.load(stored(files))


def test_a_damaged_image_that_was_all_of_its_class_takes_the_class_with_it(stored):
    cut = png(7)[:-20]
    found = read(stored({"a/1.png": 1, "b/1.png": cut, "c/1.png": 2, "c/2.png": cut}), skip_damaged=True)
    assert found.class_names == ("a", "c") and found.labels.tolist() == [0, 1]
    assert found.left_out == "2 damaged (b/1.png, c/2.png), 1 empty (b/)"


def test_only_damaged_images_are_no_set(tmp_path):
    assert_refused(write(tmp_path, {"a.png": png(7)[:-20]}), "found only 1 damaged", skip_damaged=True)


def test_a_folder_of_photographs_is_as_pillows_plain_pipeline_has_it(tmp_path):
    classes = make_folder(tmp_path, 60, 5, 90)
    reports = []
    found = read(tmp_path, lambda *counts: reports.append(counts), size="32x24", skip_damaged=True)
    assert found.class_names == ("cat2", "cat10", "dog") and found.labels.tolist() == list(classes.values())
    for name, image in zip(classes, found.images, strict=True):
        expected = reduced(plain((tmp_path / name).read_bytes()), 32, 24)
        np.testing.assert_array_equal(image, expected, err_msg=name)
    assert found.left_out == (
        "4 hidden (.DS_Store, .ipynb_checkpoints, cat2/._0.jpg, cat10/Thumbs.db), "
        "2 not PNG, JPEG, WebP, BMP, TIFF, GIF or PPM (cat2/deep/icon.ico, notes.txt), "
        "2 damaged (cat2/cut.jpg, dog/deep/forged.png)"
    )
    assert reports == [(done, 62) for done in range(1, 63)]


# Folders


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, "expected images .PNG, JPEG, WebP, BMP, TIFF, GIF or PPM., found none")


def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path, {"set/cat/1.png": 1, "set/dog/1.png": 2, "elsewhere/1.png": 3, "lone.png": 4})
    folder = tmp_path / "set"
    try:
        (folder / "ape").symlink_to(tmp_path / "elsewhere")
        (folder / "cat" / "2.png").symlink_to(tmp_path / "lone.png")
        (folder / "cat" / "loop").symlink_to(folder)
        (folder / "again").symlink_to(folder / "dog")
        (folder / "zoo").symlink_to(folder / "dog")
        (folder / "dog" / "broken.png").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("symbolic links cannot be made here")
    found = read(folder)
    assert found.class_names == ("ape", "cat", "dog") and levels(found.images) == [3, 1, 4, 2]
    assert found.left_out == (
        "1 neither files nor folders (dog/broken.png), "
        "3 linked folders that were read already (again, cat/loop, zoo)"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_opened(tmp_path):
    write(tmp_path, {"1.png": 1})
    os.mkfifo(tmp_path / "2.png")
    assert read(tmp_path).left_out == "1 neither files nor folders (2.png)"


def test_names_from_a_file_system_do_not_reach_the_terminal_as_they_are(tmp_path):
    name = "\x1b[2Jé\n\u202e" + "x" * 150
    write(tmp_path, {f"{name}.txt": b"hello", "1.png": 1, f"{name}.png": b"hello"})
    assert read(tmp_path, skip_damaged=True).left_out.isprintable()
    assert_refused(tmp_path, "cannot be read")


def test_a_deep_folder_is_read(tmp_path):
    path = tmp_path
    for _ in range(300):
        path = path / "d"
        path.mkdir()
    write(path, {"1.png": 1})
    assert len(read(tmp_path).images) == 1


def test_a_file_that_cannot_be_opened_is_an_error_of_the_system_not_damage(tmp_path, monkeypatch):
    write(tmp_path, {"1.png": 1})

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "1.png")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PermissionError):
        read(tmp_path, skip_damaged=True)


def test_the_first_damaged_image_is_named_whatever_the_order_of_the_threads(tmp_path):
    write(tmp_path, {f"{i}.png": png(i)[:-20] if i in (11, 12, 40) else i for i in range(50)})
    assert_refused(tmp_path, "11.png")


def test_a_bar_is_shown_where_decoding_takes_a_while_and_counts_from_the_first_image(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    report = loading._patient_bar()
    shown = []
    for seconds, done in ((100.0, 1), (101.0, 2), (105.0, 10), (106.0, 11), (125.0, 50)):  # 100: the headers
        clock[0] = seconds
        report(done, 50)
        shown.append(capsys.readouterr().err)
    assert shown[:2] == ["", ""] and shown[3] == ""
    assert shown[2] == "image 10/50  2/s  0:20 left\n" and shown[4].endswith("image 50/50  2/s\n")
