"""The log of a run: a line of JSON every few steps. No line of it, however damaged, is an error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from minidiff import files
from minidiff.training import Step

LOG_EVERY = 10  # steps between two lines


class Metrics:
    """The log in the file `path`, to be read, and written while training.

    pending: the losses since the last full line, the mean of which becomes the loss of the next. They belong into the
    checkpoint: so the lines of a resumed run are those of one that was never stopped, but for their seconds.
    """

    def __init__(self, path: Path, pending: Sequence[float] = ()) -> None:
        self.path, self.pending = path, list(pending)
        self._file: IO[bytes] | None = None

    def rows(self) -> list[dict[str, float]]:
        """The lines written so far: step, loss, norm, lr, seconds. What is damaged, or half written, is left out."""
        return [row for line in self._content().split(b"\n")[:-1] if (row := _row(line))]

    def cut(self, last: int) -> None:
        """Remove the lines of steps after the last, and one that is half written; other damaged ones stay."""
        content = self._content()
        lines = content.split(b"\n")[:-1]
        kept = b"".join(line + b"\n" for line in lines if _row(line).get("step", 0) <= last)
        if kept != content:
            files.replace(self.path, kept)

    def record(self, step: Step, seconds: float, last: bool) -> None:
        """Count a step, and write a line if it is time, or if it is the last step of training.

        The line of a last step is not full: training that goes on after it replaces it.
        """
        if self._file is None:
            self.cut(step.step - 1 - len(self.pending))
            self._file = open(self.path, "ab")  # noqa: SIM115
        self.pending.append(step.loss)
        full = step.step % LOG_EVERY == 0
        if full or last:
            row = {"loss": float(np.mean(self.pending)), "seconds": round(seconds, 3)}
            self._file.write(json.dumps(step._asdict() | row).encode() + b"\n")
        if full:
            self.pending.clear()

    def sync(self) -> None:
        """Put what was recorded on disk."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """End recording, with everything on disk; it may begin anew."""
        if self._file:
            file, self._file = self._file, None
            with file:
                file.flush()
                os.fsync(file.fileno())

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""


def _row(line: bytes) -> dict[str, Any]:
    """A line of the log, or nothing where it is damaged."""
    try:
        row = json.loads(line)
        numbers = [row[name] for name in ("loss", "norm", "lr", "seconds")]
        valid = type(row["step"]) is int and 0 < row["step"] < 2**53 and all(map(math.isfinite, numbers))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return {}
    return row if valid else {}
