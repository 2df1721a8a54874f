"""The files of a zip of images, read where they lie: nothing is extracted, so no name leads out of a folder."""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..wording import printable
from .errors import damage_of
from .listing import ImageFile, Listing, is_hidden

MAX_DIRECTORY = 64 << 20  # bytes of the zip's directory, which is held in memory: some 500 000 images
DEPTH = 3  # to which folders matter: one around all, a part, a class
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_RATIO, ALLOWANCE = 100, 100 << 20  # unpacked, at most 100 times the zip's own size and 100 MB


def list_zip(path: Path) -> Listing:
    """All files in the zip at `path`; it stays open as long as they are in use. One folder around all is left away.

    Raises ValueError for a zip that is damaged, too large unpacked, encrypted, or holds two files of one name.
    """
    archive = _open(path)
    listing = Listing()
    hidden: set[tuple[str, ...]] = set()
    for member in archive.infolist():
        parts = tuple(part for part in member.filename.split("/") if part not in ("", ".", ".."))
        shown = next((i for i, part in enumerate(parts) if is_hidden(part)), len(parts))
        is_folder = member.filename.endswith("/")
        folder = parts[:shown] if is_folder else parts[: min(shown, len(parts) - 1)]
        listing.folders.update(folder[:depth] for depth in range(1, min(len(folder), DEPTH) + 1))
        if shown < len(parts):
            hidden.add(parts[: shown + 1])
        elif stat.S_ISLNK(member.external_attr >> 16) or not (parts or is_folder):
            listing.leave_out("links or without a name", "/".join(parts))
        elif not is_folder:
            opened = partial(_unpacked, archive, member, path.joinpath(*parts))
            listing.files.append(ImageFile(path, parts, member.file_size, opened))
    for parts in hidden:
        listing.leave_out("hidden", "/".join(parts))
    listing.sort()
    for file, after in zip(listing.files, listing.files[1:], strict=False):
        if file.parts == after.parts:
            raise ValueError(f"{printable(file.path)}: expected one file of a name in the zip, got several")
    return _without_folder_around_all(listing)


def _without_folder_around_all(listing: Listing) -> Listing:
    outermost = {file.parts[0] for file in listing.files} | {folder[0] for folder in listing.folders}
    if len(outermost) != 1 or not all(len(file.parts) > 1 for file in listing.files):
        return listing
    return Listing(
        [replace(file, parts=file.parts[1:]) for file in listing.files],
        {folder[1:] for folder in listing.folders} - {()},
        listing.left_out,
    )


def _open(path: Path) -> zipfile.ZipFile:
    """The zip, after a look at what it claims to hold."""
    with path.open("rb") as file, _damage_of_zip(path):
        if _directory_bytes(file) > MAX_DIRECTORY:
            raise ValueError(f"its directory is longer than {MAX_DIRECTORY >> 20} MB")
        archive = zipfile.ZipFile(path)
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_RATIO * path.stat().st_size + ALLOWANCE:
            raise ValueError(f"it claims {unpacked >> 20} MB unpacked")
        if any(member.flag_bits & 1 for member in archive.infolist()):
            raise ValueError("it is encrypted")
        if any(member.compress_type not in METHODS for member in archive.infolist()):
            raise ValueError("it is compressed by another method than deflate")
    return archive


@contextmanager
def _damage_of_zip(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of damaged ones zipfile raises many kinds
        reason = printable(str(error), 100)
        raise ValueError(
            f"{printable(str(path))}: the zip cannot be read ({reason}); unpack it first"
        ) from error


def _directory_bytes(file: BinaryIO) -> int:
    """The length of the zip's directory, from the record at its end (or that of zip64 before it)."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 98))  # a comment of 64 kB, and both records
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise ValueError("its end is missing")
    (length,) = struct.unpack_from("<I", tail, end + 12)
    if tail[max(0, end - 20) :].startswith(b"PK\6\7") and end >= 76:
        (length,) = struct.unpack_from("<Q", tail, end - 36)
    return int(length)


@contextmanager
def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[BinaryIO]:
    with damage_of(str(path)), archive.open(member) as stream:
        content = stream.read(member.file_size + 1)  # without a number it may unpack more than it returns
    yield io.BytesIO(content)
