"""Zips of images: what differs from a folder, and what is refused."""

import os
import struct
import tracemalloc
import zipfile

import numpy as np
from image_mutants import damaged
from image_sets import assert_refused, levels, png, read, write_zip

RNG = np.random.default_rng(0)


def test_one_folder_around_all_is_no_class_in_a_zip(tmp_path):
    found = read(
        write_zip(tmp_path / "a.zip", {"set/": b"", "set/b/1.png": 1, "set/a/1.png": 2, "set/c/": b""})
    )
    assert (
        found.class_names == ("a", "b")
        and levels(found.images) == [2, 1]
        and found.left_out == "1 empty (c/)"
    )


def test_a_zip_of_one_image_is_read(tmp_path):
    assert levels(read(write_zip(tmp_path / "a.zip", {"1.png": 7})).images) == [7]


def test_names_in_a_zip_lead_nowhere_and_links_are_left_out(tmp_path):
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    path = write_zip(
        tmp_path / "a.zip", {"../../a/1.png": 1, "/b/1.png": 2, "C:/b/./2.png": 3, link: b"/etc/passwd"}
    )
    found = read(path)
    assert found.class_names == ("a", "b", "C:") and levels(found.images) == [1, 2, 3]
    assert found.left_out == "1 links or without a name (a/link.png)"
    assert os.listdir(tmp_path) == ["a.zip"]


def test_zips_that_cannot_be_read_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.png": 1, "2.png": 2})
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:-1], whole[:-30], whole[:50]):
        path.write_bytes(content)
        assert_refused(path, "the zip cannot be read")
    path.write_bytes(whole.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x01\x00\x00\x00"))
    assert_refused(path, "the zip cannot be read .it is encrypted")
    path.write_bytes(whole.replace(b"2.png", b"1.png"))
    assert_refused(path, "expected one file of a name in the zip")
    path.write_bytes(whole.replace(png(1)[-30:], png(1)[-30:-1] + b"x"))
    assert_refused(path, "1.png: the image cannot be read .Bad CRC")
    assert levels(read(path, skip_damaged=True).images) == [2]


def test_a_zip_that_claims_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("minidiff.datasets.image_files.zips.ALLOWANCE", 0)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.ppm", b"P5 2000 1000 255\n" + bytes(2_000_000))
        archive.writestr("2.ppm", b"P5 2000 1000 255\n" + bytes(2_000_000))
    assert_refused(path, "it claims 3 MB unpacked")
    monkeypatch.setattr("minidiff.datasets.image_files.zips.MAX_DIRECTORY", 50)
    assert_refused(path, "its directory is longer")


def test_a_member_that_unpacks_to_more_than_it_claims_takes_no_memory(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.ppm", bytes(1 << 26))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1 << 26), struct.pack("<I", 100)))
    tracemalloc.start()
    assert_refused(path, "cannot be read")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


def test_other_methods_than_deflate_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.png", png(1))
    assert_refused(tmp_path / "a.zip", "another method than deflate")


def test_a_damaged_zip_is_read_or_refused_in_one_line(tmp_path):
    path = write_zip(
        tmp_path / "a.zip", {"a/1.png": 1, "a/2.png": 2, "b/": b"", "b/.x": b"x", "notes.txt": b"hello"}
    )
    whole = path.read_bytes()
    for number in range(200):
        path.write_bytes(damaged(whole, np.random.default_rng(number)))
        for skip in (False, True):
            try:
                assert set(levels(read(path, skip_damaged=skip).images)) <= {1, 2}
            except ValueError as error:
                assert str(error).isprintable() and len(str(error)) <= 300 and str(path) in str(error)
