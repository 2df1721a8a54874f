"""The files of a folder or a zip of images: found at any depth, in natural order, the hidden ones left out."""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

# What systems and tools leave in folders; whatever begins with a dot is hidden too.
HIDDEN_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}


@dataclass(frozen=True)
class ImageFile:
    """A file that may be an image: the folder or zip, the path below it in parts, its bytes, how it is opened."""

    root: Path
    parts: tuple[str, ...]
    size: int
    open: Callable[[], AbstractContextManager[BinaryIO]] = field(compare=False)

    @property
    def name(self) -> str:
        """The path below the folder or zip."""
        return "/".join(self.parts)

    @property
    def path(self) -> str:
        """The whole path, for messages."""
        return str(self.root.joinpath(*self.parts))


@dataclass
class Listing:
    """The files found, all folders but the outermost, and the names of what was left out, for each reason."""

    files: list[ImageFile] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        """Note that a file or folder is left out, and why."""
        self.left_out.setdefault(reason, []).append(name)

    def sort(self) -> None:
        """Put all in natural order."""
        self.files.sort(key=lambda file: natural(file.parts))
        for names in self.left_out.values():
            names.sort(key=lambda name: natural(tuple(name.split("/"))))


def on_disk(folder: Path, parts: tuple[str, ...]) -> ImageFile:
    """The file of this path below `folder`."""
    path = folder.joinpath(*parts)
    return ImageFile(folder, parts, path.stat().st_size, lambda: path.open("rb"))


def natural(parts: tuple[str, ...]) -> tuple[object, ...]:
    """A key for the natural order of paths: cat2 before cat10; upper and lower case side by side."""
    return tuple((_pieces(part), part) for part in parts)


def _pieces(part: str) -> list[object]:
    """Text and numbers in turn; of numbers without leading zeros, the one of more digits is the greater."""
    pieces = re.split(r"([0-9]+)", part.casefold())
    return [(len(piece.lstrip("0")), piece.lstrip("0")) if i % 2 else piece for i, piece in enumerate(pieces)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's or a tool's own."""
    return name.startswith(".") or name.casefold() in HIDDEN_NAMES


def list_folder(folder: Path) -> Listing:
    """All files below `folder`. Links are followed, but no folder is read twice, so that loops end.

    Raises OSError where a folder cannot be read.
    """
    listing = Listing()
    folders: list[tuple[str, ...]] = [()]
    linked: list[tuple[str, ...]] = []
    seen: set[tuple[int, int]] = set()
    while folders or linked:
        parts = folders.pop() if folders else linked.pop(0)  # a folder by its own name, if it has one here
        path = folder.joinpath(*parts)
        found = path.stat()
        if (found.st_dev, found.st_ino) in seen:
            listing.leave_out("linked folders that were read already", "/".join(parts))
            continue
        seen.add((found.st_dev, found.st_ino))
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: natural((entry.name,))):
                below = (*parts, entry.name)
                if is_hidden(entry.name):
                    listing.leave_out("hidden", "/".join(below))
                elif entry.is_dir():
                    (linked if entry.is_symlink() else folders).append(below)
                elif entry.is_file():
                    listing.files.append(on_disk(folder, below))
                else:
                    listing.leave_out("neither files nor folders", "/".join(below))
        listing.folders.add(parts)
    listing.folders.remove(())
    listing.sort()
    return listing
