"""Folders and zips of small images: how tests write and read them."""

import zipfile

import pytest
from image_examples import encoded
from PIL import Image

from minidiff.datasets import image_files
from minidiff.datasets.image_files import ImageOptions


def read(path, report=lambda done, total: None, **options):
    return image_files.read_folder(path, ImageOptions(**options), report)


def png(level, width=3, height=2):
    return encoded(Image.new("L", (width, height), level), "png")


def write(folder, files):
    """files: {path below the folder: content, or a level of grey}."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(content) if isinstance(content, int) else content)
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, png(content) if isinstance(content, int) else content)
    return path


def levels(images):
    return images[:, 0, 0, 0].tolist()


def assert_refused(path, message, **options):
    with pytest.raises(ValueError, match=message) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.isprintable() and len(text) <= 300 and (str(path) in text or "…" in text)
