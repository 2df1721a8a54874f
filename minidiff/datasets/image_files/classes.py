"""The parts and classes of a folder of images, by the paths of its files."""

from collections.abc import Collection, Sequence

import numpy as np

from ..wording import printable
from .listing import ImageFile, natural

TRAIN, HELD_OUT = "train", {"test", "val"}


def train_and_held_out(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile], int]:
    """The files to train on, those to be held out, and the index at which a path has its class.

    Folders called train, test and val are parts of the set, where all images lie in them and some in train.
    """
    outermost = [file.parts[0].casefold() if len(file.parts) > 1 else "" for file in files]
    if TRAIN not in outermost or not {*outermost} <= {TRAIN} | HELD_OUT:
        return list(files), [], 0
    train = [file for file, name in zip(files, outermost, strict=True) if name == TRAIN]
    return train, [file for file, name in zip(files, outermost, strict=True) if name != TRAIN], 1


def class_names_of(files: Sequence[ImageFile], index: int) -> tuple[str, ...]:
    """The folders in which the files lie, in natural order; none where there are no folders.

    Raises ValueError where some files lie in folders and some beside them.
    """
    inside = [len(file.parts) > index + 1 for file in files]
    if not any(inside):
        return ()
    if not all(inside):
        beside, in_class = files[inside.index(False)], files[inside.index(True)]
        raise ValueError(
            f"{printable(str(beside.root))}: expected images either in folders, one a class, or beside them; got both, "
            f"{printable(beside.name, 40)} and {printable(in_class.name, 40)}"
        )
    return tuple(sorted({file.parts[index] for file in files}, key=lambda name: natural((name,))))


def empty_classes(folders: Collection[tuple[str, ...]], files: Sequence[ImageFile], index: int) -> list[str]:
    """The folders beside the classes in which no image lies, by their paths."""
    full = {file.parts[: index + 1] for file in files}
    outer = {folder[:-1] for folder in full}
    empty = [folder for folder in folders if folder[:-1] in outer and folder not in full]
    return ["/".join(folder) for folder in sorted(empty, key=natural)]


def labels_of(files: Sequence[ImageFile], index: int, class_names: Sequence[str]) -> np.ndarray | None:
    """The index of each file's class, (N,) int64; None where there are no classes.

    Raises ValueError for a file of a class that is not among `class_names`.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    for file in files:
        known = file.parts[index] in numbers if class_names else len(file.parts) == index + 1
        if not known:
            expected = "one of the classes of" if class_names else "no classes, as in"
            raise ValueError(
                f"{printable(file.path)}: expected {expected} {TRAIN}/, got an image of another class"
            )
    return np.array([numbers[file.parts[index]] for file in files], np.int64) if class_names else None
