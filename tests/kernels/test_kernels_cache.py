"""The kernels' cache on disk: whatever happens to its files, results are right, and what is damaged is replaced."""

import errno
import os
import pickle
import shutil
import sys
import warnings

import numba
import pytest
from fresh import run
from hypothesis import assume, given
from hypothesis import strategies as st

from minidiff.kernels import cache, jit

pytestmark = pytest.mark.compiled


def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder with the files of `twice` and `thrice`, just compiled, and each file's contents."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "CACHE_DIR", str(folder))
        results(twice), results(thrice)
        yield {path: path.read_bytes() for path in folder.rglob("*.nb?")}


def results(function):
    """What a new process would compute with it, and whether it took it from the cache; notes are ignored."""
    compiled = jit.kernel(function)
    with warnings.catch_warnings(record=True):
        value = compiled(21)
    return value, sum(compiled.stats.cache_hits.values()) == 1


def restore(files):
    for path, content in files.items():
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def own(files, function, suffix):
    return next(path for path in files if path.suffix == suffix and f".{function.__name__}-" in path.name)


def assert_recovers(files):
    """`twice` must be right at once, and taken from the cache from then on; `thrice` is not affected."""
    assert results(twice)[0] == 42
    assert results(twice) == (42, True)
    assert results(thrice) == (63, True)


def test_an_undamaged_cache_is_used(files, recwarn):
    restore(files)
    assert {path.suffix for path in files} == {".nbi", ".nbc"} and len(files) == 4
    assert results(twice) == (42, True)
    assert not recwarn.list


every_suffix = pytest.mark.parametrize("suffix", [".nbi", ".nbc"])


@every_suffix
@given(data=st.data())
def test_a_file_cut_short_zeroed_or_with_other_bytes_is_replaced(files, suffix, data):
    restore(files)
    path = own(files, twice, suffix)
    content = bytearray(files[path])
    begin = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(begin + 1, len(content)))
    kind = data.draw(st.sampled_from(["cut", "zeroed", "flipped", "noise", "removed"]))
    if kind == "cut":
        del content[begin:]
    elif kind == "zeroed":
        content[begin:end] = bytes(end - begin)
    elif kind == "flipped":
        content[begin] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "noise":
        content[begin:end] = data.draw(st.binary(min_size=1, max_size=100))
    else:
        del content[begin:end]
    assume(content != files[path])
    path.write_bytes(content)
    if suffix == ".nbc":  # not even a changed bit of it is run
        assert results(twice) == (42, False)
    assert_recovers(files)


@pytest.mark.parametrize("fraction", [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_machine_code_in_which_a_bit_has_flipped_is_not_run(files, fraction):
    restore(files)
    path = own(files, twice, ".nbc")
    content = bytearray(files[path])
    content[int(fraction * len(content))] ^= 1
    path.write_bytes(content)
    assert results(twice) == (42, False)
    assert_recovers(files)


WRONG = [None, "words", {}, (1, 2), ("stamp", {"key": "data"}), ((), (), ())]


@every_suffix
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_file_that_is_a_valid_pickle_of_something_else_is_replaced(files, suffix, wrong):
    restore(files)
    version = pickle.dumps(numba.__version__) if suffix == ".nbi" else b""
    own(files, twice, suffix).write_bytes(version + pickle.dumps(wrong))
    assert_recovers(files)


@pytest.mark.parametrize("suffixes", [[".nbc"], [".nbi"]])
def test_the_machine_code_of_another_kernel_is_not_run(files, suffixes):
    restore(files)
    for suffix in suffixes:
        shutil.copy(own(files, thrice, suffix), own(files, twice, suffix))
    assert_recovers(files)


def test_an_index_written_before_the_disk_was_full_does_not_lead_to_old_machine_code(files, monkeypatch):
    restore(files)
    monkeypatch.setattr(cache, "_stamp", lambda: "of other sources")
    write = cache._CheckedFile._save_data

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache._CheckedFile, "_save_data", full)
    assert results(twice) == (42, False)
    monkeypatch.setattr(cache._CheckedFile, "_save_data", write)
    assert results(twice) == (42, False)
    assert results(twice) == (42, True)


@every_suffix
def test_a_directory_in_the_place_of_a_file_does_no_harm(files, suffix):
    restore(files)
    path = own(files, twice, suffix)
    path.unlink()
    path.mkdir()
    assert results(twice) == (42, False)
    assert results(thrice) == (63, True)


@pytest.mark.parametrize("function", [os.replace, os.makedirs], ids=["replace", "makedirs"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_what_cannot_be_written_is_noted_once_with_the_folder(files, code, function, monkeypatch):
    restore(files)
    own(files, twice, ".nbi").unlink()
    monkeypatch.setattr(cache, "_noted", set())
    compiled, again = jit.kernel(twice), jit.kernel(twice)

    def fails(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function.__name__, fails)
    with pytest.warns(RuntimeWarning) as notes:
        assert compiled(21) == again(21) == 42
    (note,) = notes
    assert str(own(files, twice, ".nbi").parent) in str(note.message) and "\n" not in str(note.message)
    assert os.strerror(code) in str(note.message)


def test_kernels_work_where_nothing_can_be_written_at_all(monkeypatch):
    monkeypatch.setattr(cache, "_noted", set())

    def nowhere(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "makedirs", nowhere)
    with pytest.warns(RuntimeWarning, match="could not be used") as notes:
        assert jit.kernel(twice)(21) == 42
        assert jit.c_function("int64(int64)")(twice).compiled.ctypes(21) == 42
    assert len(notes) == 1


FRESH = """
import numpy as np
from minidiff import kernels
print(kernels.add(np.ones(3, np.float32), np.ones(3, np.float32)))
"""


def test_a_process_with_a_damaged_cache_says_one_thing_and_goes_on(tmp_path):
    there = {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CACHE_DIR": str(tmp_path)}
    expected = run(FRESH, **there)
    assert (expected.stdout, expected.stderr) == ("[2. 2. 2.]\n", "")
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(b"")
    damaged, mended = run(FRESH, **there), run(FRESH, **there)
    assert damaged.stdout == expected.stdout and damaged.stderr.count("RuntimeWarning") == 1
    assert str(tmp_path) in damaged.stderr
    assert (mended.stdout, mended.stderr) == (expected.stdout, "")


def test_with_numba_switched_off_the_reference_is_used():
    code = FRESH + "from minidiff.kernels import pointwise\nassert kernels._MODE == 'reference'\n"
    done = run(code, NUMBA_DISABLE_JIT="1")
    assert (done.stdout, done.stderr) == ("[2. 2. 2.]\n", "")
