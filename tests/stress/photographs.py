"""A folder of mixed photographs, sides 40…3000: made, read at one size, and each compared with Pillow's plain pipeline.

    python tests/stress/photographs.py [--count 2000] [--size 32] [--folder FOLDER]

Prints seconds, the memory at its peak, how many images differ, and what was left out. Status 1 where one differs.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from image_examples import make_folder, plain, reduced

from minidiff.datasets.image_files import ImageOptions, read_folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", default="32")
    parser.add_argument("--folder", type=Path, help="where they are written (a new folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    settings = ImageOptions(size=options.size, skip_damaged=True)

    begin = time.perf_counter()
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as maker:  # so that the peak is the reader's
        classes = maker.submit(make_folder, folder, options.count, 40, 3000).result()
    print(f"made {len(classes)} images in {folder}: {time.perf_counter() - begin:.0f} s", flush=True)

    before, begin = peak_in_mb(), time.perf_counter()
    found = read_folder(folder, settings, lambda done, total: None)
    seconds = time.perf_counter() - begin
    print(
        f"read {len(found.images)} in {seconds:.1f} s; {before:.0f} MB before, {peak_in_mb():.0f} at the peak"
    )
    print(f"left out: {found.left_out}", flush=True)

    wrong = [] if found.labels.tolist() == [*classes.values()] else ["the classes"]
    for name, image in zip(classes, found.images, strict=True):
        expected = reduced(plain((folder / name).read_bytes()), *settings.width_and_height())
        wrong += [] if np.array_equal(image, expected) else [name]
    print(f"different from Pillow's pipeline: {len(wrong)}", *wrong)
    return bool(wrong)


def peak_in_mb() -> float:
    """The largest memory that this process had so far; Linux gives kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
