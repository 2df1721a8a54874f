"""How much memory there is, and the refusal of what needs more, before anything of it is allocated.

Linux promises memory that it does not have and kills whoever uses it, so that waiting for a MemoryError is no check.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

ALWAYS_THERE = 1 << 24  # bytes that are not worth a look at what the system says


def require(count: int, bytes_each: float, what: str, root: Path = Path("/")) -> None:
    """Raises MemoryError, which says how many would fit, if `count` of `what` (plural), `bytes_each`, do not."""
    needed = count * bytes_each
    if needed > ALWAYS_THERE and needed > (free := available(root)):
        number = f"{count:,}" if count < 1e15 else f"{count:.3g}"
        raise MemoryError(
            f"{number} {what} need {_size(needed)} of memory, and {_size(free)} are free: "
            f"at most {max(0, math.floor(free / bytes_each)):,} fit"
        )


def available(root: Path = Path("/")) -> float:
    """The bytes that this process may still allocate; infinite where the system does not say.

    The least of what the machine has left, what the control groups of a container or a batch job leave, and the limits
    that `ulimit` sets. root: the folder in which proc and sys are.
    """
    return max(0.0, min([_of_machine(root), *_of_groups(root), *_of_limits(root)]))


def _of_machine(root: Path) -> float:
    """What Linux says is available; elsewhere all the memory that the machine has, if the system says it."""
    try:
        return _table(root / "proc/meminfo")["MemAvailable:"] * 1024
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows, which promises no more than it has
        return math.inf


def _of_groups(root: Path) -> Iterator[float]:
    """What each control group leaves that this process is in and that has a limit; cached files can be dropped.

    A line of /proc/self/cgroup is `number:controllers:group`, without controllers in version 2.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = f"{line}::".split(":", 3)[:3]
        mounted = root / "sys/fs/cgroup"
        names = "memory.max", "memory.current"
        if controllers:
            mounted, names = mounted / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if controllers == "" or "memory" in controllers.split(","):
            innermost = mounted / group.strip("/")
            for folder in (innermost, *innermost.parents):
                with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                    limit, used = (int((folder / name).read_text()) for name in names)
                    cached = _table(folder / "memory.stat")
                    yield limit - used + cached.get("active_file", 0) + cached.get("inactive_file", 0)
                if folder == mounted:
                    break


def _of_limits(root: Path) -> Iterator[float]:
    """What `ulimit -v` and `ulimit -d` leave."""
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        used = _table(root / "proc/self/status")
    except OSError:
        used = {}
    for limit, name in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield most - used.get(name, 0) * 1024


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file with lines `name number …`."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _size(number: float) -> str:
    """`1.5 GB`."""
    units = ["PB", "TB", "GB", "MB", "kB", "B"]
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop()
    return f"{number:.3g} {units[-1]}"
