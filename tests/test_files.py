"""Files are written whole or not at all."""

import io
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidiff import files


def test_a_new_file_is_written_and_an_old_one_replaced(tmp_path):
    path = tmp_path / "a"
    files.replace(path, b"old and longer")
    files.replace(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.replace(tmp_path / "a", b"")
        assert os.umask(umask) == umask  # reading it has not changed it
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_failed_or_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch, call, error):
    (tmp_path / "a").write_bytes(b"old")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(type(error)):
        files.replace(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_the_content_is_on_disk_before_the_file_is_renamed_and_its_name_after(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *a, name=name, real=real: calls.append(name) or real(*a))
    files.replace(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files_only(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError("a network drive")
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", of_files_only)
    files.replace(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_temporaries_are_what_a_killed_replace_leaves_and_nothing_else(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(files.os, "replace", killed)
    monkeypatch.setattr(files.os, "unlink", lambda name: None)
    for name in ("a", "b.npz", "b+npz"):
        with pytest.raises(Killed):
            files.replace(tmp_path / name, b"half")
    for name in ("a", "b.npz", ".b.npz", ".b.npz.mine", ".b.npz.12345678.old", "b.npz.12345678"):
        (tmp_path / name).write_bytes(b"whole")
    found = [*files.temporaries(tmp_path, ["b.npz", "c"])]
    assert [path.read_bytes() for path in found] == [b"half"] and found[0].name.startswith(".b.npz.")


def test_a_missing_folder_and_a_folder_of_that_name_are_os_errors(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "a", tmp_path / "folder"):
        with pytest.raises(OSError):
            files.replace(path, b"x")
    assert os.listdir(tmp_path) == ["folder"]


def npz(arrays, **options):
    content = io.BytesIO()
    files.write_npz(content, arrays, **options)
    return content.getvalue()


@given(
    st.dictionaries(
        st.sampled_from(["a", "b/c", "d"]),
        hnp.arrays(
            st.sampled_from(["f4", ">f8", "f2", "?", "u1", "i8", "c8", "U3", "M8[s]"]),
            hnp.array_shapes(min_dims=0, max_side=4, min_side=0),
        ),
    ),
    st.sampled_from([np.asarray, np.transpose, np.flip]),
)
def test_an_npz_has_the_bytes_of_savez(arrays, order):
    arrays = {name: order(array) for name, array in arrays.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    assert npz(arrays) == content.getvalue()


def test_an_npz_may_have_a_comment_and_an_array_of_any_name_and_nothing_pickled():
    arrays = {"file": np.array(3), "a": np.arange(6.0)}
    with np.load(io.BytesIO(npz(arrays, comment=b"x" * 9)), allow_pickle=False) as archive:
        assert archive.files == list(arrays) and archive.zip.comment == b"x" * 9
        for name, array in arrays.items():
            np.testing.assert_array_equal(archive[name], array)
    with pytest.raises(ValueError, match="pickle"):
        npz({"objects": np.array([None])})
