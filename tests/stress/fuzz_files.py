"""Damaged data files by the ten thousand: each is refused in one line or read, in bounded memory and time.

    python tests/stress/fuzz_files.py [--count 50000] [--seed 0] [--folder FOLDER] [NAME …]

Prints a line for each format: how many mutants were refused and read, the slowest, and the memory of the process
before and at its peak. A mutant that raises anything else, or ends the process, stays in FOLDER, and the status is 1.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from file_mutants import ORIGINALS, mutants
from fuzz_images import MAX_MEGABYTES, MAX_SECONDS, peak_in_mb
from published_sets import HELD_OUT, HELD_OUT_LABELS, IMAGES, LABELS, cifar10_python

from minidiff import datasets


def fuzz(path: Path, count: int, seed: int) -> None:
    """Reads `count` mutants from the file `path`, as a command would, and prints the figures."""
    before, read, slowest = peak_in_mb(), 0, 0.0
    source = path
    if path.name == "batches.meta":
        source = path.parent
        cifar10_python(source, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    for content in mutants(path.name, count, seed):
        path.write_bytes(content)
        begin = time.perf_counter()
        try:
            datasets.load(source).checksum  # noqa: B018 (it reads all samples)
            read += 1
        except ValueError as error:
            assert str(path.parent) in str(error) and "\n" not in str(error), repr(error)
        slowest = max(slowest, time.perf_counter() - begin)
        assert slowest < MAX_SECONDS and peak_in_mb() < MAX_MEGABYTES, (
            f"{slowest:.1f} s, {peak_in_mb():.0f} MB"
        )
    path.unlink()
    figures = f"{count - read:8} {read:8} {slowest:8.2f} {before:9.0f} {peak_in_mb():7.0f}"
    print(f"{path.name:26} {figures}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*ORIGINALS], help=", ".join(ORIGINALS))
    parser.add_argument("--count", type=int, default=50_000, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where mutants are written (a new folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    print("format                      refused     read  slowest s  MB before  MB at peak")
    failed = []
    for name in options.names:
        # A process of its own: code in C may end it, and its peak is its own.
        path = folder / name.replace(".", "_") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        arguments = path, options.count, options.seed
        process = multiprocessing.get_context("spawn").Process(target=fuzz, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            failed.append(path)
            print(f"{name:26} ended with {process.exitcode}: see {path}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
