"""Progress of a long task: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import math
import time
from typing import TextIO

WIDTH = 24
BLOCKS = " ▏▎▍▌▋▊▉█"
ON_TERMINAL, ELSEWHERE = 0.1, 10.0  # seconds between two updates


class Progress:
    """Writes progress to `stream`, no more often than it can be read.

    unit: the name of what is counted, as "step"; done: how many were done before. total: how many there are, or None;
    seconds: the time limit, or None. Whichever is reached first determines the bar and the time left.
    epoch: how many make an epoch, whose time is then shown if it is above a second.
    """

    def __init__(
        self,
        unit: str,
        stream: TextIO,
        total: int | None = None,
        done: int = 0,
        seconds: float | None = None,
        epoch: float | None = None,
    ) -> None:
        self.unit, self.stream, self.total, self.seconds = unit, stream, total, seconds
        self.epoch = epoch
        self.begin, self.first, self.done, self.shown = time.monotonic(), done, done, -math.inf
        self.terminal = stream.isatty()

    def update(self, done: int, note: str = "") -> None:
        """Report that `done` are done in all; note: a few words at the end of the line."""
        self.done, now = done, time.monotonic()
        if now - self.shown >= (ON_TERMINAL if self.terminal else ELSEWHERE):
            self._show(now, note)

    def finish(self, note: str = "") -> None:
        """Report the end; the last line remains on the terminal."""
        self._show(time.monotonic(), note)
        if self.terminal:
            self.stream.write("\n")

    def _show(self, now: float, note: str) -> None:
        self.shown, spent = now, now - self.begin
        rate = (self.done - self.first) / max(spent, 1e-9)
        fractions = [0.0] if self.total is None else [self.done / max(self.total, 1)]
        left = [] if self.total is None or not rate else [(self.total - self.done) / rate]
        if self.seconds is not None:
            fractions.append(spent / self.seconds)
            left.append(max(0.0, self.seconds - spent))
        of = "" if self.total is None else f"/{self.total}"
        remaining = f"{_clock(min(left))} left" if left and min(left) >= 1 else ""
        fields = [
            f"{self.unit} {self.done}{of}",
            f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s",
            note,
            f"epoch in {_clock(self.epoch / rate)}" if self.epoch and 0 < rate <= self.epoch else "",
            remaining,
        ]
        if self.terminal:
            fields.insert(1, _bar(min(1.0, max(fractions))))
            self.stream.write("\r\x1b[K" + "  ".join(filter(None, fields)))
        else:
            self.stream.write("  ".join(filter(None, fields)) + "\n")
        self.stream.flush()


def _bar(fraction: float) -> str:
    """A bar of WIDTH characters, in eighths of one."""
    full, eighths = divmod(int(fraction * WIDTH * 8), 8)
    return ("█" * full + (BLOCKS[eighths] if full < WIDTH else "")).ljust(WIDTH)


def _clock(seconds: float) -> str:
    """`2:46:30`, or `1:05` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
