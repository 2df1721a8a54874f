"""Ctrl-C that lets the work at hand be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal is gone
# Whichever of them there are: Windows has no SIGHUP, and only Windows has Ctrl-Break.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that fills on Ctrl-C, or when the process is to terminate; the same a second time stops at once.

    A closed terminal may send its signal more than once, which stops nothing at once. A signal that the process
    ignores, as under nohup, is ignored here too. Python delivers signals to the main thread only; elsewhere the list
    stays empty.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if number in received and number != HANGUP:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
