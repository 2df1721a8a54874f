"""How far along a long piece of work is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import time
from typing import TextIO

WIDTH = 24
BLOCKS = " ▏▎▍▌▋▊▉█"
ON_TERMINAL, ELSEWHERE = 0.1, 10.0  # seconds between two updates


class Progress:
    """Say how far the work is on `stream`, as often as that can be read.

    total: how many pieces there are, or None; seconds: how long it may take, or None. Whichever ends first sets the
    bar and the time left.
    """

    def __init__(
        self, what: str, stream: TextIO, total: int | None = None, done: int = 0, seconds: float | None = None
    ) -> None:
        self.what, self.stream, self.total, self.seconds = what, stream, total, seconds
        self.begin, self.first, self.done, self.shown = time.monotonic(), done, done, -math.inf
        self.terminal = stream.isatty()

    def update(self, done: int, note: str = "") -> None:
        """`done` pieces are done, in all; note: a few words to end the line with."""
        self.done, now = done, time.monotonic()
        if now - self.shown >= (ON_TERMINAL if self.terminal else ELSEWHERE):
            self._show(now, note)

    def finish(self, note: str = "") -> None:
        """The work has ended: leave the last line standing."""
        self._show(time.monotonic(), note)
        if self.terminal:
            self.stream.write("\n")

    def _show(self, now: float, note: str) -> None:
        self.shown, spent = now, now - self.begin
        rate = (self.done - self.first) / max(spent, 1e-9)
        shares = [0.0] if self.total is None else [self.done / max(self.total, 1)]
        left = [] if self.total is None or not rate else [(self.total - self.done) / rate]
        if self.seconds is not None:
            shares.append(spent / self.seconds)
            left.append(max(0.0, self.seconds - spent))
        of = "" if self.total is None else f"/{self.total}"
        remaining = f"{_clock(min(left))} left" if left and min(left) >= 1 else ""
        words = [
            f"{self.what} {self.done}{of}",
            f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s",
            note,
            remaining,
        ]
        if self.terminal:
            words.insert(1, _bar(min(1.0, max(shares))))
            self.stream.write("\r\x1b[K" + "  ".join(filter(None, words)))
        else:
            self.stream.write("  ".join(filter(None, words)) + "\n")
        self.stream.flush()


def _bar(share: float) -> str:
    """A bar of WIDTH characters, in eighths of one."""
    eighths = int(share * WIDTH * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[part] if full < WIDTH else "")).ljust(WIDTH)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
