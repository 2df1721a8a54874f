"""Standard output and error that may be closed, full, or a pipe whose reader has left: the work goes on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO


class Output(io.TextIOBase):
    """A stream that drops what cannot be written. error: the first reason why it could not, or None.

    stream: the one behind it; None, as Python has it where the process was started without, drops everything.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.error = stream, None if stream else OSError("closed")

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        if self.stream and not self.error:
            try:
                self.stream.write(text)
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        if self.stream and not self.error:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def fileno(self) -> int:
        """Its number in the system. Raises OSError or ValueError where it has none."""
        return self.stream.fileno() if self.stream else super().fileno()

    def _fail(self, error: Exception) -> None:
        self.error = error if isinstance(error, OSError) else OSError(str(error))
        if self.stream in (sys.__stdout__, sys.__stderr__):
            # What is left in its buffer would fail once more when the interpreter exits.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())


@contextmanager
def outputs(silent: bool = False) -> Iterator[Output]:
    """Let stdout and stderr be `Output`s, which drop everything if `silent`; yields that of stdout."""
    # Else the next file that is opened, perhaps a checkpoint, would be stdout or stderr.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without β shows a question mark
    out, err = (Output(None if silent else stream) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield out
        finally:
            out.flush()
            err.flush()
