"""Every option of every command with values of every bad kind: each ends in one line of 300 characters, or works.

    python tests/stress/options.py [WORD …]       # those whose command and option contain each word

Each try is a process of its own, forked from one that has everything imported, with RLIMIT_DATA at 2 GB, and killed at
2 GB of memory, after 20 seconds of CPU time, or 120 in all, since the machine may be busy. What still runs after some
seconds is interrupted, as by Ctrl-C: training must then be saved. The commands, their options and the values are those
of tests/cli/option_values.py.
"""

import functools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

import numpy as np
from option_values import Try, complaint, tries

from minidiff import classifier, cli

SECONDS, INTERRUPT_AFTER, BYTES = 20.0, 5.0, 2 << 30
PATIENCE = 6  # seconds in all for one of CPU time
AT_ONCE = 2  # tries


class Running(NamedTuple):
    """A try in its process."""

    tried: Try
    process: int
    folder: Path
    begin: float


def main(words: list[str]) -> int:
    """Make all tries, or those until Ctrl-C, print a table, and return how many did not end as they should."""
    chosen = [t for t in tries() if all(word in t.option.split() or word == t.value for word in words)]
    counts: Counter[tuple[str, str]] = Counter()
    peak, begin = 0, time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores in the background
    with tempfile.TemporaryDirectory() as scratch:
        materials = prepare(Path(scratch) / "materials")
        waiting, running = list(chosen), list[Running]()
        random.Random(0).shuffle(waiting)  # so that a part of them is a sample of all
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(started(waiting.pop(), Path(scratch), materials))
                for one in list(running):
                    if (end := ended(one)) is not None:
                        running.remove(one)
                        found, outcome, memory = end
                        peak = max(peak, memory)
                        counts[one.tried.option, outcome] += 1
                        if found:
                            shown = [f"{argument:.60}" for argument in one.tried.arguments]
                            print(f"{one.tried.option} {one.tried.value}: {found}\n    {shown!a}", flush=True)
                        shutil.rmtree(one.folder)
                time.sleep(0.005)
        except KeyboardInterrupt:
            for one in running:
                os.kill(one.process, signal.SIGKILL)
                os.wait4(one.process, 0)
    outcomes = ("worked", "refused", "interrupted", "failed")
    failed = sum(number for (_, outcome), number in counts.items() if outcome == "failed")
    print(f"\n{'':28}" + "".join(f"{outcome:>12}" for outcome in outcomes))
    for option in dict.fromkeys(t.option for t in chosen):
        print(f"{option:28}" + "".join(f"{counts[option, outcome]:12}" for outcome in outcomes))
    print(
        f"\n{counts.total()} of {len(chosen)} tries in {time.monotonic() - begin:.0f} s, {failed} failed; "
        f"at most {peak / 2**20:.0f} MB of memory"
    )
    return failed


def prepare(folder: Path) -> Path:
    """Data and three runs to try on; what this compiles is there in every process that is forked."""
    folder.mkdir()
    np.save(folder / "POINTS.npy", np.random.default_rng(0).normal(3.0, 2.0, (60, 2)))
    data = {"RUN": "digits", "CLASSES": "digits", "POINTS_RUN": str(folder / "POINTS.npy")}
    for name, source in data.items():
        options = ["--steps", "2", "--T", "20", "--width", "8", "--batch", "8"]
        more = ["--classes"] if name == "CLASSES" else []
        assert cli.main(["train", source, *options, *more, "--out", str(folder / name)]) == 0
    # Training a classifier is the same whatever the options are, and long.
    setattr(classifier, "fit", functools.partial(classifier.fit, steps=20))  # noqa: B010
    return folder


def started(tried: Try, scratch: Path, materials: Path) -> Running:
    """Fork a process that makes the try in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    for name in {"RUN", "CLASSES", "POINTS_RUN"} & set(tried.arguments):
        shutil.copytree(materials / name, folder / name)
    sources = {"DIGITS": "digits", "POINTS": str(materials / "POINTS.npy")}
    arguments = [sources.get(argument, argument) for argument in tried.arguments]
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            status = attempt(arguments, folder)
        except BaseException:
            traceback.print_exc()
            status = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return Running(tried, process, folder, time.monotonic())


def attempt(arguments: list[str], folder: Path) -> int:
    """The exit status of the command, whose output goes into the files `out` and `err`."""
    for number, name in ((1, "out"), (2, "err")):
        with open(folder / name, "wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace")  # noqa: SIM115
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    try:
        return cli.main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2


INTERRUPTED: set[int] = set()


def ended(one: Running) -> tuple[str, str, int] | None:
    """What is wrong with how it ended, what it did, and its memory; None while it runs. Interrupts, or kills it."""
    process, status, usage = os.wait4(one.process, os.WNOHANG)
    if process == 0:
        seconds, memory = time_of(one), resident(one.process)
        if memory > BYTES or seconds > SECONDS:
            os.kill(one.process, signal.SIGKILL)
            os.wait4(one.process, 0)
            return f"killed after {seconds:.1f} s, at {memory / 2**20:.0f} MB", "failed", memory
        if seconds > INTERRUPT_AFTER and one.process not in INTERRUPTED:
            os.kill(one.process, signal.SIGINT)
            INTERRUPTED.add(one.process)
        return None
    code = os.waitstatus_to_exitcode(status)
    out, err = ((one.folder / name).read_bytes().decode(errors="replace") for name in ("out", "err"))
    found = complaint(code, err)
    if one.process in INTERRUPTED and code == 130 and one.tried.arguments[0] in ("train", "quickstart"):
        found = found or ("" if "saved" in out else f"interrupted but not saved: {err[-200:]!r}")
    INTERRUPTED.discard(one.process)
    outcome = {0: "worked", 130: "interrupted"}.get(code, "refused")
    return found, "failed" if found else outcome, usage.ru_maxrss * 1024


def time_of(one: Running) -> float:
    """The seconds of CPU time that it has taken, or a sixth of those that have passed, if that is more."""
    try:
        fields = Path(f"/proc/{one.process}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        used = 0.0
    return max(used, (time.monotonic() - one.begin) / PATIENCE)


def resident(process: int) -> int:
    """The bytes of memory that a process has now."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 125))
