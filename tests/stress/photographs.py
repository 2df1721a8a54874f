"""A folder of mixed photographs, sides 40…3000: made, read at one size, and each compared with Pillow's plain pipeline.

    python tests/stress/photographs.py [--count 2000] [--size 32] [--folder FOLDER]

Prints seconds, the memory at its peak, how many images differ, and what was left out. Status 1 where one differs.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from image_examples import make_folder, plain, reduced

from minidiff.datasets.image_files import ImageOptions, read_folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", default="32")
    parser.add_argument("--folder", type=Path, help="where they are written (a new folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    settings = ImageOptions(size=options.size, skip_damaged=True)

    begin = time.perf_counter()
    classes = make_folder(folder, options.count, 40, 3000)
    print(f"made {len(classes)} images in {folder}: {time.perf_counter() - begin:.0f} s", flush=True)
    ...


if __name__ == "__main__":
    sys.exit(main())
