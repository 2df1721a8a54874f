"""Decoded images are kept in files, and taken from there exactly as long as nothing has changed."""

import errno
import os
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_sets import png, write, write_zip

from minidiff import files
from minidiff.datasets import LoadingOptions, cache, image_files, load

SKIP = LoadingOptions(skip_damaged=True)
IMAGES = {f"{name}/{level}.png": level for name in ("ant", "bee") for level in (3, 60, 99)}
SOURCES = {
    "classes": IMAGES | {"bee/cut.png": png(9)[:-20], ".hidden": b"x"},
    "no classes": {f"{level}.png": level for level in (1, 70, 200)},
    "parts": {f"train/{name}": level for name, level in IMAGES.items()}
    | {"test/ant/8.png": 8, "val/bee/9.png": 9},
}


def kept(source, folder, options=SKIP):
    """The data, and what is decoded of it kept in the folder."""
    data = load(source, options=options, cache_folder=folder)
    cache.keep(folder, data.decoded)
    return data


def assert_same(data, other):
    assert data.checksum == other.checksum and data.left_out == other.left_out and data.units == other.units


@pytest.fixture
def pictures(tmp_path):
    return write(tmp_path / "pictures", SOURCES["classes"])


@pytest.fixture
def undecodable(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("images are decoded")

    return lambda: monkeypatch.setattr(image_files, "read_folder", refuse)


@pytest.mark.parametrize("content", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("make", [write, write_zip])
def test_images_are_decoded_once(tmp_path, undecodable, make, content):
    source = make(tmp_path / "a.zip", content)
    (other := tmp_path / "held out").mkdir()
    options = LoadingOptions(skip_damaged=True, held_out=str(write_zip(other / "b.zip", content)))
    for folder, with_options in ((tmp_path, SKIP), (other, options)):
        first = kept(source, folder, with_options)
        assert_same(first, load(source, options=with_options))
        assert first.decoded.keys() <= {path.name for path in folder.iterdir()}
    undecodable()
    for folder, with_options in ((tmp_path, SKIP), (other, options)):
        again = load(source, options=with_options, cache_folder=folder)
        assert not again.decoded
        with pytest.raises(AssertionError, match="images are decoded"):
            load(source, options=with_options)
        (moved := tmp_path / "moved").mkdir()
        shutil.copytree(source, moved / "c") if source.is_dir() else shutil.copy2(source, moved / "c")
        assert again.checksum == load(moved / "c", options=with_options, cache_folder=folder).checksum
        shutil.rmtree(moved)


def rewritten(folder):
    """A file of other content, but the same length, written later."""
    path = folder / "ant/3.png"
    path.write_bytes(png(4))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES = {
    "rewritten": rewritten,
    "other length": lambda folder: os.truncate(folder / "ant/3.png", 40),
    "added": lambda folder: write(folder, {"bee/more.png": 5}),
    "removed": lambda folder: (folder / "ant/3.png").unlink(),
    "renamed": lambda folder: (folder / "ant/3.png").rename(folder / "ant/100.png"),
    "moved": lambda folder: (folder / "ant/3.png").rename(folder / "bee/4.png"),
    "another class": lambda folder: (folder / "ant").rename(folder / "cat"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_images_that_changed_are_decoded_again(tmp_path, pictures, change):
    before = kept(pictures, tmp_path)
    change(pictures)
    after = kept(pictures, tmp_path)
    assert after.checksum != before.checksum
    assert_same(after, load(pictures, options=SKIP))
    assert not load(pictures, options=SKIP, cache_folder=tmp_path).decoded


@pytest.mark.parametrize("option", [{"size": "2"}, {"grey": True}, {"colour": True}], ids=str)
def test_images_are_decoded_again_with_other_options(tmp_path, pictures, option):
    kept(pictures, tmp_path)
    options = LoadingOptions(skip_damaged=True, **option)
    assert load(pictures, options=options, cache_folder=tmp_path).decoded
    assert_same(kept(pictures, tmp_path, options), load(pictures, options=options))


def test_a_damaged_file_is_noticed_wherever_it_is_damaged(tmp_path, pictures):
    first = kept(pictures, tmp_path)
    (path,) = tmp_path.glob("*.npz")
    content = path.read_bytes()

    def check(damaged):
        path.write_bytes(damaged)
        assert_same(load(pictures, options=SKIP, cache_folder=tmp_path), first)

    def flipped(index, change):
        return content[:index] + bytes([content[index] ^ change]) + content[index + 1 :]

    given(st.integers(0, len(content) - 1).map(lambda length: content[:length]))(check)()
    given(st.builds(flipped, st.integers(0, len(content) - 1), st.integers(1, 255)))(check)()
    for index in range(content.index(b"PK\1\2"), len(content)):  # the directory, which has no checksum
        check(flipped(index, 1))
    path.write_bytes(content[: len(content) // 2])
    assert kept(pictures, tmp_path).decoded and path.read_bytes() == content


def test_without_room_on_the_disk_nothing_is_kept_and_nothing_is_wrong(tmp_path, pictures, monkeypatch):
    (folder := tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1000, 990, 10))
        assert_same(kept(pictures, folder), load(pictures, options=SKIP))
    assert [*folder.iterdir()] == []

    def full(file, arrays):
        file.write(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_npz", full)
    assert_same(kept(pictures, folder), load(pictures, options=SKIP))
    assert [*folder.iterdir()] == []


def test_a_folder_that_cannot_be_written_or_is_not_there_is_none(tmp_path, pictures):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "none", tmp_path / "file"):
        assert_same(kept(pictures, folder), load(pictures, options=SKIP))
    (tmp_path / cache.DATA).mkdir()
    assert_same(kept(pictures, tmp_path), load(pictures, options=SKIP))


def test_several_at_once_read_and_write_the_same_file(tmp_path, pictures):
    expected, found = load(pictures, options=SKIP).checksum, []

    def work():
        for _ in range(10):
            found.append(kept(pictures, tmp_path).checksum)
            (tmp_path / cache.DATA).unlink(missing_ok=True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 30 and not list(tmp_path.glob(".*"))


def test_what_is_kept_is_data_like_any_other(tmp_path):
    pictures = write(tmp_path / "pictures", SOURCES["parts"])
    first = kept(pictures, tmp_path)
    data = load(tmp_path / cache.DATA)
    np.testing.assert_array_equal(data.x.stored, first.x.stored)
    np.testing.assert_array_equal(data.held_out_labels, first.held_out_labels)
