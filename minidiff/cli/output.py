"""Where the commands write to, and how: files, progress, and messages of one line."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minidiff import files
from minidiff.cli.arguments import UsageError
from minidiff.diffusion import samplers
from minidiff.progress import Progress
from minidiff.runs import Run

NAME = 240  # bytes of a file's name, of which a temporary beside it needs some more; systems allow 255
LINE, WORD = 300, 60  # the most characters of a message, and of a word in one that would be longer


def one_line(text: str) -> str:
    """`text` as one line of at most 300 characters, without control characters; long words lose their middle."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    if len(line) > LINE:
        line = " ".join(_without_middle(word, WORD) for word in line.split())
    return _without_middle(line, LINE)


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most + most // 2 + 1 :]}"


def output_path(options: argparse.Namespace, run: Run, default: str, *suffixes: str) -> Path:
    """--out, by default in the run's folder. Raises UsageError for another suffix, OSError where no file can be."""
    out: Path = options.out or run.folder / default
    if out.suffix not in suffixes:
        endings = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise UsageError(f"{options.command.__name__}: --out must end in {endings}, got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} to write {out.name} into")
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; give --out a file")
    check_writable(out)
    return out


def output_folder(folder: Path, run: Run) -> Path:
    """A folder for an image each, new or empty. Raises UsageError for points, OSError where there can be none."""
    if len(run.shape) != 3:
        raise UsageError(f"sample: {run.folder} has points, not images: --out takes a .png or .npz file")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there and not an empty folder; name a new one, or a .png or .npz file"
        )
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder.parent} to make {folder.name} in")
    check_writable(folder)
    return folder


def check_writable(file: Path) -> None:
    """Raises OSError where the file cannot be written, so that no work is done in vain. Leaves nothing behind."""
    try:
        if len(os.fsencode(file.name)) > NAME:
            raise OSError(errno.ENAMETOOLONG, f"the name is longer than {NAME} bytes")
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise OSError(f"{file} cannot be written: {error.strerror}") from error


def write_npz(out: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name, whole or not at all. Raises NotFinite where a number in the data's units is not finite."""
    for array in arrays.values():
        samplers.finite(array)
    with files.replacing(out) as file:
        files.write_npz(file, arrays)


def write_json(out: Path, figures: Mapping[str, object]) -> None:
    """Write figures by name as JSON, with null for what is not a finite number."""
    text = json.dumps(_finite(figures), indent=2, allow_nan=False)
    files.replace(out, (text + "\n").encode())


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_rows(out: Path, rows: dict[str, np.ndarray], **arrays: np.ndarray) -> int:
    """A picture with the images of each row side by side, or the arrays, as the suffix says."""
    if out.suffix == ".npz":
        write_npz(out, **arrays)
        print(f"wrote {out}: {', '.join(arrays)}")
        return 0
    from minidiff.evaluation import plots

    images = list(rows.values())
    plots.save(plots.image_grid(np.concatenate(images), columns=len(images[0]), side=960), out)
    print(f"wrote {out}: {', '.join(rows)}, row by row" if len(rows) > 1 else f"wrote {out}")
    return 0


@contextmanager
def progress(unit: str, last: str = "") -> Iterator[Callable[[int, int], None]]:
    """A report(done, total) that shows a bar on stderr, which `last` completes."""
    bar = Progress(unit, sys.stderr)

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    yield report
    bar.finish(last)
