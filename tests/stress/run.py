"""Runs that are killed, meet a full disk, or are trained twice at once: `python tests/stress/run.py`.

Each must end as a run that was never stopped. Prints figures and every fault; exit status 1 if there was one.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from children import call, creating, ended, prepare, resuming, start
from operations import Operations
from outcomes import contents, fault_of_the_message, faults_of_the_ended, faults_of_the_killed

from minidiff.runs import run as run_module


class Stress:
    """The kinds of trouble, all in one folder, and the faults that were found."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.faults = folder, random.Random(seed), list[str]()
        self.data, self.run, self.output = prepare(folder), folder / "run", folder / "output"
        assert call(creating(self.data, self.run, 3), self.output) == 0, self.output.read_text()
        self.begun = self.run.rename(folder / "begun")
        begin = time.monotonic()
        assert call(creating(self.data, self.run), self.output) == 0, self.output.read_text()
        self.seconds, self.expected = time.monotonic() - begin, contents(self.run)

    def kills_at_random(self, count: int) -> None:
        """SIGKILL at random moments, and then once more while it is resumed."""
        states = collections.Counter[str]()
        for _ in range(count):
            self._clear()
            states[self._kill_later(creating(self.data, self.run))] += 1
            self._kill_later(self._again())
            self._finish("killed at random")
        print(f"{count} runs killed at random, twice each: {_counted(states)}")

    def kills_at_operations(self, count: int) -> None:
        """SIGKILL before every operation on a file, and amid every write, in turn."""
        for begun, arguments in (("new", creating(self.data, self.run)), ("resumed", resuming(self.run))):
            operations = self._operations(begun, arguments)
            chosen = [operations[i % len(operations)] for i in range(count // 2)]
            if count // 2 < len(operations):
                chosen = sorted(self.random.sample(operations, count // 2))
            states = collections.Counter[str]()
            for number, name in chosen:
                self._begin(begun)
                status = call(arguments, self.output, Operations(self.folder, number).install)
                if status != -signal.SIGKILL:
                    self.faults.append(f"{begun}, {name}: was not killed, status {status}")
                states[self._state(f"{begun}, killed {name}")] += 1
                self._finish(f"{begun}, killed {name}")
            different = f"{len(set(chosen))} of {len(operations)} operations"
            print(f"{begun}: {len(chosen)} kills at {different}: {_counted(states)}")

    def full_disks(self, count: int) -> None:
        """A disk that is full sooner or later, and then larger; every second time it is the folder itself."""
        disk, states = self.folder / "disk", collections.Counter[str]()
        disk.mkdir()
        largest = 2 * sum(path.stat().st_size for path in self.run.iterdir())
        for i in range(count):
            self.run = disk if i % 2 else disk / "run"
            with _mounted(disk, 8192 + largest * i // count) as resize:
                status = call(creating(self.data, self.run), self.output)
                state = self._state(f"disk {i}") if status else "not full"
                states[state] += 1
                if status:
                    self.faults += [f"disk {i}: {fault}" for fault in fault_of_the_message(self.output)]
                    if state == "nothing" and any(disk.iterdir()):
                        self.faults.append(f"disk {i}: left over: {os.listdir(disk)}")
                resize(2 * largest)
                self._finish(f"disk {i}")
        self.run = self.folder / "run"
        print(f"{count} full disks: {_counted(states)}")

    def double_starts(self, count: int) -> None:
        """Two processes on one folder, new, empty or that of a run: exactly one trains."""
        begun, outputs = collections.Counter[str](), [self.folder / "first", self.folder / "second"]
        for i in range(count):
            kind = ("new", "empty", "resumed")[i % 3]
            self._begin(kind)
            endless = resuming(self.run, 10**9) if kind == "resumed" else creating(self.data, self.run, 10**9)
            children = []
            for output in outputs:
                children.append(start(endless, output, self._note_loading))
                time.sleep(self.random.choice([0, 0.01, 0.3]))
            lost, status = os.wait()
            status = os.waitstatus_to_exitcode(status)
            (won,) = set(children) - {lost}
            lines = outputs[children.index(lost)].read_text().splitlines()
            while "loss " not in outputs[children.index(won)].read_text():  # before, SIGTERM ends it at once
                time.sleep(0.01)
            os.kill(won, signal.SIGTERM)
            good = status == 1 and len(lines) == 1 and f"{self.run} is in use by process {won} on" in lines[0]
            if not good or (self.folder / f"loaded.{lost}").exists():
                self.faults.append(f"{kind}: the second ended with {status}, {lines}")
            if (status := ended(won)) != 130 or not (self.run / "checkpoint.npz").exists():
                self.faults.append(f"{kind}: the first ended with {status}")
            begun[kind] += 1
        print(f"{count} double starts: {_counted(begun)}")

    # ---- steps of these

    def _clear(self) -> None:
        for path in (self.run, self.run.with_name(f".{self.run.name}.unfinished")):
            shutil.rmtree(path, ignore_errors=True)

    def _begin(self, kind: str) -> None:
        self._clear()
        if kind == "empty":
            self.run.mkdir()
        if kind == "resumed":
            shutil.copytree(self.begun, self.run)

    def _again(self) -> list[str]:
        """The command with which a user goes on."""
        is_run = (self.run / "checkpoint.npz").exists()
        return resuming(self.run) if is_run else creating(self.data, self.run)

    def _kill_later(self, arguments: list[str]) -> str:
        child = start(arguments, self.output)
        time.sleep(self.random.uniform(0, self.seconds))
        os.kill(child, signal.SIGKILL)
        ended(child)
        return self._state("killed at random")

    def _state(self, what: str) -> str:
        faults = faults_of_the_killed(self.run)
        self.faults += [f"{what}: {fault}" for fault in faults]
        return "fault" if faults else "run" if (self.run / "checkpoint.npz").exists() else "nothing"

    def _finish(self, what: str) -> None:
        status = call(self._again(), self.output)
        faults = faults_of_the_ended(self.run, self.expected)
        if status:
            faults.append(f"status {status}, {self.output.read_text()[-300:]!r}")
        self.faults += [f"{what}: {fault}" for fault in faults]

    def _operations(self, kind: str, arguments: list[str]) -> list[tuple[int, str]]:
        self._begin(kind)
        record = self.folder / "operations.json"
        operations = Operations(self.folder)

        def install() -> None:
            operations.install()
            os._exit = lambda status, exit=os._exit: (
                record.write_text(json.dumps(operations.names)) and exit(status)
            )

        assert call(arguments, self.output, install) == 0, self.output.read_text()
        return list(enumerate(json.loads(record.read_text())))

    def _note_loading(self) -> None:
        load = run_module.load

        def noted(*arguments: object) -> object:
            (self.folder / f"loaded.{os.getpid()}").touch()
            return load(*arguments)

        run_module.load = noted


@contextlib.contextmanager
def _mounted(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A disk in memory of so many bytes; yields what changes its size."""

    def mount(size: int, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options}size={size}", "tmpfs", folder], check=True)

    mount(size, "")
    try:
        yield lambda size: mount(size, "remount,")
    finally:
        subprocess.run(["umount", folder], check=True)


def _can_mount(folder: Path) -> bool:
    try:
        with _mounted(folder, 8192):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _counted(states: collections.Counter[str]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def main() -> int:
    """Parse the counts, make the trouble, print the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=100, help="kills at random moments, twice a run (100)")
    parser.add_argument("--operations", type=int, default=200, help="kills at operations on files (200)")
    parser.add_argument("--disks", type=int, default=60, help="full disks, where one can be mounted (60)")
    parser.add_argument("--starts", type=int, default=50, help="double starts (50)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        stress, begin = Stress(Path(name), options.seed), time.monotonic()
        stress.double_starts(options.starts)
        stress.kills_at_operations(options.operations)
        stress.kills_at_random(options.random)
        if _can_mount(Path(name)):
            stress.full_disks(options.disks)
        else:
            print("no full disks: none can be mounted here")
        print(f"{len(stress.faults)} faults in {time.monotonic() - begin:.0f} s")
        print(*stress.faults, sep="\n")
    return 1 if stress.faults else 0


if __name__ == "__main__":
    sys.exit(main())
