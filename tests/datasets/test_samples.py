"""Samples as they are stored: the same numbers as converted at once, in the memory of what is stored."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import datasets
from minidiff.datasets import Samples, Units, from_raw
from minidiff.datasets import samples as samples_module
from minidiff.datasets.dataset import split
from minidiff.datasets.samples import checksum, checksum_0_1

DTYPES = ("?", "u1", "i1", "<u2", ">u2", "<i4", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8")


def converted_at_once(raw, units, keep):
    """What version 0.1 kept: a copy of the rows as float32 in the network's range."""
    raw = (raw.astype(np.uint8) if raw.dtype.kind == "b" else raw)[keep]
    work = np.float32 if raw.dtype.itemsize <= 2 else np.float64
    x = np.subtract(raw, units.offset, dtype=work)
    x /= np.asarray(units.scale, work)
    return x.astype(np.float32, copy=False)


@given(
    st.sampled_from(DTYPES),
    st.sampled_from([(1,), (3,), (4, 5, 1), (4, 5, 3)]),
    st.integers(0, 99),
    st.sampled_from(["C", "F"]),
    st.integers(1, 50),
)
def test_every_dtype_has_the_bits_of_version_0_1(dtype, shape, seed, order, entries):
    rng = np.random.default_rng(seed)
    raw = np.asarray(rng.uniform(0, 100, (30, *shape)), order=order).astype(dtype)
    raw[:2] = np.array([0, 1]).reshape(2, *(1 for _ in shape))
    data = from_raw("mine", raw)
    keep, hold = split(30, None, 0.1)
    if raw.ndim == 2:
        plain = raw.astype(np.uint8) if dtype == "?" else raw
        mean, std = plain.mean(axis=0, dtype=np.float64), plain.std(axis=0, dtype=np.float64)
        assert data.units == Units(mean, np.where(std > 0, std, 1.0))
    for x, rows in ((data.x, keep), (data.held_out, hold)):
        expected = converted_at_once(raw, data.units, rows)
        np.testing.assert_array_equal(np.asarray(x), expected)
        index = rng.permutation(len(x))[:7]
        for some in (index, slice(1, 3), -1, index > 1 if len(index) == len(x) else index):
            np.testing.assert_array_equal(x[some], expected[some])
            assert x[some].dtype == np.float32 and x[some].flags.c_contiguous
        assert (len(x), x.shape, x.ndim, x.dtype) == (len(expected), expected.shape, raw.ndim, np.float32)
    assert data.checksum == from_raw("mine", np.ascontiguousarray(raw)).checksum
    assert checksum_0_1(data.x) == zlib.crc32(np.ascontiguousarray(converted_at_once(raw, data.units, keep)))


def test_neither_blocks_nor_rows_change_checksums(monkeypatch):
    raw = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
    data = from_raw("mine", raw)
    rows = data.x.rows
    whole, old = data.x.checksum, checksum_0_1(data.x)
    for entries in (1, 100, 1 << 20):
        monkeypatch.setattr(samples_module, "BLOCK_ENTRIES", entries)
        again = from_raw("mine", raw)
        assert again.x.checksum == Samples(raw[rows], data.units).checksum == whole
        assert checksum_0_1(again.x) == old and again.units == data.units
    assert Samples(raw.astype(np.uint16)[rows], data.units).checksum != whole
    assert Samples(raw[rows].reshape(-1, 5, 6, 3), data.units).checksum != whole
    assert (
        Samples(np.moveaxis(np.ascontiguousarray(np.moveaxis(raw, -1, 1)), 1, -1)[rows], data.units).checksum
        == whole
    )


def test_an_array_has_a_checksum_too():
    x = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    changed = x.copy()
    changed[19, 1] += 1
    assert checksum(x) == checksum(x.copy()) != checksum(changed)


def test_taking_some_shares_what_is_stored():
    data = from_raw("mine", np.arange(60.0).reshape(30, 2))
    for index in (np.array([5, 2, 2]), np.arange(27) % 3 == 0):
        some = data.x.take(index)
        np.testing.assert_array_equal(np.asarray(some), np.asarray(data.x)[index])
        assert some.stored is data.x.stored
    whole = Samples(data.x.stored, data.units)
    np.testing.assert_array_equal(np.asarray(whole.take(np.array([3]))), whole[3:4])


def test_making_a_data_set_copies_nothing_of_a_large_array():
    raw = np.random.default_rng(0).integers(0, 256, (20_000, 32, 32, 1), np.uint8)
    tracemalloc.start()
    data = from_raw("mine", raw, np.arange(len(raw)) % 10)
    data.x[:64], data.checksum
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < raw.nbytes
    assert data.x.stored.base is raw or data.x.stored is raw


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_npy_is_mapped_and_the_same_as_a_small_one(tmp_path, monkeypatch, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), np.uint8), order=order)
    np.save(tmp_path / "a.npy", array)
    read = datasets.load(tmp_path / "a.npy")
    monkeypatch.setattr(datasets.numpy_files, "MAPPED_FROM", 0)
    mapped = datasets.load(tmp_path / "a.npy")
    assert isinstance(mapped.x.stored.base, np.memmap) or isinstance(mapped.x.stored.base.base, np.memmap)
    np.testing.assert_array_equal(np.asarray(mapped.x), np.asarray(read.x))
    assert mapped.checksum == read.checksum
    for content in ((tmp_path / "a.npy").read_bytes()[:-1], (tmp_path / "a.npy").read_bytes() + b"\0"):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.npy: the header declares 4500 bytes of data, but"):
            datasets.load(tmp_path / "b.npy")


CHANGES = {
    "a pixel": lambda raw, labels, names: raw[3].__setitem__(0, raw[3, 0] ^ 1),
    "two samples that changed places": lambda raw, labels, names: raw.__setitem__([4, 5], raw[[5, 4]]),
    "a label": lambda raw, labels, names: labels.__setitem__(7, 1 - labels[7]),
    "a name": lambda raw, labels, names: names.__setitem__(1, "dog"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("given", [False, True])
def test_the_checksum_of_a_data_set_covers_all_that_a_run_depends_on(change, given):
    def made():
        held_out = {"held_out": raw[:9], "held_out_labels": labels[:9]} if given else {}
        return from_raw("mine", raw, labels, class_names=names, limits=(0, 255), **held_out).checksum

    raw, labels, names = np.arange(160, dtype=np.uint8).reshape(20, 8, 1), np.arange(20) % 2, ["ant", "cat"]
    before = made()
    assert made() == before
    change(raw, labels, names)
    assert made() != before


def test_labels_beyond_the_names_are_refused_and_names_count_the_classes():
    raw = np.arange(20.0)
    assert from_raw("mine", raw, np.arange(20) % 2, class_names=["a", "b", "c"]).classes == 3
    with pytest.raises(ValueError, match="mine: expected labels below 2, the number of class names, got 2"):
        from_raw("mine", raw, np.arange(20) % 3, class_names=["a", "b"])
