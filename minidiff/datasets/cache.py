"""Decoded images in files beside a run, from which the next command takes them.

Each is an `.npz` with Keras' names, and `about.json`: the key by which it is recognised, and what is no array. A file
that is damaged, cannot be read or has another key is as good as none.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from minidiff import files

from .image_files import ImageOptions, list_folder
from .numpy_files import KERAS, read_npz
from .stored import Stored
from .strict import damage_as_value_error

DATA, HELD_OUT = "decoded.npz", "decoded_held_out.npz"
ABOUT = "about.json"
MOST_OF_DISK = 0.5  # of what is free: the run's checkpoints need some too


def cached(file: Path | None, source: Path, options: ImageOptions, decode: Callable[[], Stored]) -> Stored:
    """The images of `source`, a folder or zip: from `file` where they are the same; else decoded, with a key to keep.

    They are the same as long as the options are, and the path below `source`, the size and the time of modification of
    each file.
    """
    if file is None:
        return decode()
    key = _key(source, options)
    return _read(file, key) or replace(decode(), key=key)


def keep(folder: Path, decoded: Mapping[str, Stored]) -> None:
    """Write what was decoded into files of these names, if there is room; for data that is the run's."""
    for name, stored in decoded.items():
        with suppress(OSError):
            _write(folder / name, stored)


def _key(source: Path, options: ImageOptions) -> str:
    """The SHA-256 of the options of images, and of what the system says of each file."""
    digest = hashlib.sha256(repr([getattr(options, about.name) for about in fields(ImageOptions)]).encode())
    names = [file.name for file in list_folder(source).files] if source.is_dir() else [""]
    for name in names:
        found = (source / name).stat()
        digest.update(repr((name, found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()


def _read(file: Path, key: str) -> Stored | None:
    try:
        with damage_as_value_error(file), zipfile.ZipFile(file) as archive:
            about = json.loads(archive.read(ABOUT))
            if about["key"] != key or archive.namelist() != [*about["arrays"], ABOUT]:
                return None
            class_names, left_out = tuple(map(str, about["class_names"])), str(about["left_out"])
        return replace(read_npz(file), class_names=class_names, left_out=left_out)
    except (TypeError, ValueError):
        return None


def _write(file: Path, stored: Stored) -> None:
    arrays = stored.samples, stored.labels, stored.held_out, stored.held_out_labels
    given = {name: array for name, array in zip(KERAS, arrays, strict=True) if name and array is not None}
    if sum(array.nbytes for array in given.values()) > MOST_OF_DISK * shutil.disk_usage(file.parent).free:
        return
    about = {"key": stored.key, "class_names": stored.class_names, "left_out": stored.left_out}
    with files.replacing(file) as opened:
        files.write_npz(opened, given)
        with zipfile.ZipFile(opened, "a") as archive:
            archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about | {"arrays": archive.namelist()}))
