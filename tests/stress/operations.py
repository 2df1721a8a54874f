"""Every operation of this process on the files of a folder, and SIGKILL at a chosen one."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidiff.runs import metrics

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}  # audited by Python


class Operations:
    """Counts operations from 0, and kills the process at number `last`; names: what they were."""

    def __init__(self, folder: Path, last: int | None = None) -> None:
        self.folder, self.last, self.names = str(folder), last, list[str]()

    def install(self) -> None:
        """Begin to count: before every operation, before and after a file is synced, and amid every write."""
        sys.addaudithook(self._audit)
        self._replace(os, "fsync", self._fsync)
        self._replace(os, "fdopen", self._opened)
        metrics.open = lambda *arguments: self._opened(open, *arguments)

    def reach(self, name: str, half: Callable[[], object] = lambda: None) -> None:
        """Count an operation. If it is the last one: do half of it, and die."""
        self.names.append(name)
        if len(self.names) - 1 == self.last:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if path.startswith(self.folder) and not (reads and os.path.isfile(path)):
            self.reach(f"before {event.removeprefix('os.')} {_name(path)}")

    def _replace(self, module: Any, name: str, function: Callable[..., Any]) -> None:
        original = getattr(module, name)
        setattr(module, name, lambda *arguments: function(original, *arguments))

    def _fsync(self, original: Callable[[int], None], handle: int) -> None:
        self.reach("before fsync")
        original(handle)
        self.reach("after fsync")

    def _opened(self, original: Callable[..., Any], *arguments: Any) -> Any:
        return _Halving(original(*arguments), self)


class _Halving:
    """A file of which a write may be the last operation, half done; of many writes the 1st, 2nd, 4th, 8th, …"""

    def __init__(self, file: Any, operations: Operations) -> None:
        self.file, self.operations, self.writes = file, operations, 0

    def write(self, content: bytes) -> None:
        def half() -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        self.writes += 1
        if self.writes & (self.writes - 1) == 0:
            self.operations.reach(f"amid write {_name(str(self.file.name))}", half)
        self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "_Halving":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _name(path: str) -> str:
    """The name of a file, without what is random in it."""
    return re.sub(r"(?<=\.)[a-z0-9_]{8}$", "*", os.path.basename(path))
