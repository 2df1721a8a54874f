"""The files of a run's folder, and how a new folder comes to be: all of it at once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minidiff import files
from minidiff.datasets import cache
from minidiff.runs import lock

CHECKPOINT, SETTINGS, METRICS = "checkpoint.npz", "settings.json", "metrics.jsonl"
PICTURES = ("loss.png", "samples.png", "classes.png", "animation.gif", "trajectory.png", "report.html")
PREVIEWS = "previews"
FIRST = CHECKPOINT, SETTINGS, cache.DATA, cache.HELD_OUT  # what a new run may have


@contextmanager
def new(folder: Path) -> Iterator[tuple[Path, lock.Lock]]:
    """A locked folder to make a run in. After the block it is `folder`; if the block raised, nothing is left of it.

    A new folder has a hidden name until then, so that a process that is killed leaves no half of a run; whoever makes
    one there again takes over the rest. A folder that is there, and empty, is filled as it stands. Raises
    FileExistsError where the folder holds anything, BlockingIOError where another process makes or trains a run, and
    OSError where no folder can be made.
    """
    hidden = folder if folder.is_dir() else _hidden(folder)
    made = [] if hidden == folder else [hidden, *(path for path in hidden.parents if not path.exists())]
    try:
        held = _made_and_locked(hidden, folder)
    except BaseException:
        _remove(made)
        raise
    try:
        _check_free(folder)  # with the lock it stays so
        _clear(hidden)
        yield hidden, held
        if hidden != folder:
            held.rename(hidden, folder)
    except BaseException:
        _clear(hidden)
        held.remove(hidden)
        _remove(made)
        raise
    files.sync_folder(folder.parent)


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 1
    while folder.exists() or lock.in_use(_hidden(folder)):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def clear_temporaries(folder: Path) -> None:
    """Remove what a killed process left of files that it was writing. For the process that holds the lock."""
    for path in [
        *files.temporaries(folder, (*FIRST, METRICS, *PICTURES)),
        *(folder / PREVIEWS).glob(".step_*"),
    ]:
        path.unlink(missing_ok=True)


def _made_and_locked(hidden: Path, folder: Path) -> lock.Lock:
    while True:
        _check_free(folder)
        try:
            hidden.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {folder} cannot be made: {error.strerror}") from error
        with suppress(FileNotFoundError):  # another process has just renamed or removed the folder
            return lock.take(hidden, folder)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _check_free(folder: Path) -> None:
    """Raises FileExistsError where there is anything but an empty folder, or what a killed `new` left in one."""
    left = set(files.temporaries(folder, FIRST)) if folder.is_dir() else set()
    if not folder.exists() or (
        folder.is_dir() and all(path in left or lock.is_lock(path) for path in folder.iterdir())
    ):
        return
    if (folder / CHECKPOINT).exists():
        lock.check(folder)  # whoever trains there says more
    raise FileExistsError(f"{folder} is there and not empty; name a new folder, or resume it if it is a run")


def _clear(folder: Path) -> None:
    if not folder.exists():  # it was renamed before the exception
        return
    for path in [*files.temporaries(folder, FIRST), *(folder / name for name in FIRST)]:
        path.unlink(missing_ok=True)


def _remove(folders: list[Path]) -> None:
    """Remove folders, the innermost first, as long as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
