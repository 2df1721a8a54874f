"""Damaged files of every format are refused in one line that names the file, or read; nothing else happens."""

import tracemalloc

import pytest
from file_mutants import ORIGINALS, mutants
from published_sets import HELD_OUT, HELD_OUT_LABELS, IMAGES, LABELS, cifar10_python

from minidiff import datasets


@pytest.mark.parametrize("name", ORIGINALS)
def test_two_hundred_mutants_are_refused_in_one_line_or_read_in_little_memory(tmp_path, name):
    if name == "batches.meta":
        cifar10_python(tmp_path, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    source, refused = tmp_path if name == "batches.meta" else tmp_path / name, 0
    tracemalloc.start()
    for content in mutants(name, 200):
        (tmp_path / name).write_bytes(content)
        try:
            data = datasets.load(source)
        except ValueError as error:
            assert str(tmp_path) in str(error) and "\n" not in str(error) and len(str(error)) < 400
            refused += 1
        else:
            assert len(data.x) > 0 and data.checksum
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 20 and peak < 16 << 20
