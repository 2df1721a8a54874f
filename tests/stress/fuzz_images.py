"""Damaged images by the ten thousand: each is refused in one line or decoded, in bounded memory and time.

    python tests/stress/fuzz_images.py [--count 50000] [--seed 0] [--folder FOLDER] [ENDING …]

Prints a line for each format: how many mutants were refused and decoded, the slowest, and the memory of the process
before and at its peak. A mutant that raises anything else, or ends the process, stays in FOLDER with a log, and the
status is 1.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from image_examples import FORMATS
from image_mutants import mutants

from minidiff.datasets.image_files import DamagedImage, read_image

MAX_SECONDS, MAX_MEGABYTES = 20, 2000


def fuzz(path: Path, count: int, seed: int) -> None:
    """Reads `count` mutants from the file `path`, as a command would, and prints the figures."""
    warnings.simplefilter("ignore")
    with path.with_suffix(".log").open("wb") as log:
        os.dup2(log.fileno(), 2)  # libtiff writes there what is wrong with a file, besides failing
    ending = path.suffix[1:]
    before, decoded, slowest = peak_in_mb(), 0, 0.0
    for content in mutants(ending, count, seed):
        path.write_bytes(content)
        begin = time.perf_counter()
        try:
            read_image(path)
            decoded += 1
        except DamagedImage as error:
            assert str(error).isprintable() and len(str(error)) <= 300, repr(error)
        slowest = max(slowest, time.perf_counter() - begin)
        assert slowest < MAX_SECONDS and peak_in_mb() < MAX_MEGABYTES, (
            f"{slowest:.1f} s, {peak_in_mb():.0f} MB"
        )
    path.unlink()
    path.with_suffix(".log").unlink()
    refused = count - decoded
    print(f"{ending:6} {refused:8} {decoded:8} {slowest:8.2f} {before:9.0f} {peak_in_mb():7.0f}", flush=True)


def peak_in_mb() -> float:
    """The largest memory that this process had so far; Linux gives kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endings", nargs="*", metavar="ENDING", default=[*FORMATS], help=", ".join(FORMATS))
    parser.add_argument("--count", type=int, default=50_000, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where mutants are written (a new folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    print("format  refused  decoded  slowest s  MB before  MB at peak")
    failed = []
    for ending in options.endings:
        # A process of its own: a decoder in C may end it, and its peak is its own.
        path = folder / f"mutant.{ending}"
        process = multiprocessing.get_context("spawn").Process(
            target=fuzz, args=(path, options.count, options.seed)
        )
        process.start()
        process.join()
        if process.exitcode:
            failed.append(path)
            print(f"{ending:6} ended with {process.exitcode}: see {path} and its log", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
