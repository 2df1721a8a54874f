"""Arrays and facts come back exactly, or not at all."""

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from minidiff import checkpoints

ARRAYS = {"a/w": np.arange(3, dtype=np.float32), "order": np.array([2, 0, 1])}
FACTS = {"step": 3, "settings": {"lr": 0.1}}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.text("abcxyz./_09", min_size=1, max_size=8).filter(lambda name: name.strip("./") == name)


def assert_refused(path):
    """A ValueError of one line that names the file."""
    with pytest.raises(ValueError) as caught:
        checkpoints.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoints.write(path, ARRAYS, FACTS)
    return path


# ---- there and back


@given(
    arrays=st.dictionaries(
        names,
        hnp.arrays(
            st.sampled_from(["f4", "f8", "i8", "u8", "i4", "u1", "?"]),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
        max_size=3,
    ),
    facts=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
def test_arrays_and_facts_come_back_as_they_were(tmp_path_factory, arrays, facts):
    facts.pop("version", None)
    path = tmp_path_factory.getbasetemp() / "there.npz"
    checkpoints.write(path, arrays, facts)
    got, told = checkpoints.read(path)
    told.pop("version")
    assert told == facts and got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()


def test_the_state_of_a_random_generator_survives(tmp_path):
    rng = np.random.default_rng(5)
    rng.integers(0, 9, 3, dtype=np.int32)  # leaves half of a draw in the generator
    checkpoints.write(tmp_path / "c.npz", {}, {"random": rng.bit_generator.state})
    other = np.random.default_rng()
    other.bit_generator.state = checkpoints.read(tmp_path / "c.npz")[1]["random"]
    np.testing.assert_array_equal(other.integers(0, 99, 9, np.int32), rng.integers(0, 99, 9, np.int32))


def test_arrays_that_are_views_or_not_contiguous_are_written_as_they_look(tmp_path):
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    checkpoints.write(tmp_path / "c.npz", {"a": array}, {})
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "c.npz")[0]["a"], array)


def test_it_is_an_ordinary_npz_that_numpy_reads_without_pickle(written):
    with np.load(written, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["a/w"], ARRAYS["a/w"])


def test_the_same_content_gives_the_same_bytes(written, tmp_path):
    checkpoints.write(tmp_path / "again.npz", ARRAYS, FACTS)
    assert (tmp_path / "again.npz").read_bytes() == written.read_bytes()


# ---- damage


def test_any_flipped_byte_is_noticed(written):
    content = written.read_bytes()
    assert len(content) < 2000
    with open(written, "r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place)
            assert_refused(written)
            os.pwrite(file.fileno(), bytes([byte]), place)
    checkpoints.read(written)


def test_any_cut_is_noticed(written):
    for length in reversed(range(len(written.read_bytes()))):
        os.truncate(written, length)
        assert_refused(written)


@pytest.mark.parametrize("more", [b"\0", b"\n", b"0" * 64])
def test_anything_appended_or_put_before_is_noticed(written, more):
    content = written.read_bytes()
    for harmed in (content + more, more + content, content + content):
        written.write_bytes(harmed)
        assert_refused(written)


def png():
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    return out.getvalue()


def plain_npz():
    out = io.BytesIO()
    np.savez(out, samples=np.zeros(3))
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"x", b"0" * 64, png(), plain_npz(), b'{"step": 3}'], ids=range(6))
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(content)
    assert_refused(path)


def test_another_version_is_refused_and_both_are_named(tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    monkeypatch.setattr(checkpoints, "VERSION", 7)
    checkpoints.write(path, ARRAYS, FACTS)
    monkeypatch.undo()
    assert_refused(path)
    with pytest.raises(ValueError, match=rf"version 7.* {checkpoints.VERSION}"):
        checkpoints.read(path)


def burst():
    raise AssertionError("what the file told to run was run")


class Bomb:
    def __reduce__(self):
        return burst, ()


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(ValueError):
        checkpoints.write(path, {"a": np.array([Bomb()], dtype=object)}, {})
        checkpoints.read(path)


# ---- whole or not at all


def test_facts_that_json_cannot_say_leave_the_file_as_it_was(written):
    before = written.read_bytes()
    with pytest.raises(TypeError):
        checkpoints.write(written, ARRAYS, {"net": object()})
    assert written.read_bytes() == before and os.listdir(written.parent) == [written.name]


KILLED = """
import os, signal, sys, numpy as np
from minidiff import checkpoints, files
setattr(files.os, {call!r}, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
checkpoints.write({path!r}, {{"a": np.ones(100_000)}}, {{}})
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_kill_9_in_the_middle_leaves_the_old_file_and_nothing_that_looks_like_one(written, call):
    code = KILLED.format(call=call, path=str(written))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    arrays, facts = checkpoints.read(written)
    np.testing.assert_array_equal(arrays["a/w"], ARRAYS["a/w"])
    assert facts["step"] == 3
    assert list(written.parent.glob("*")) != [] and list(written.parent.glob("*.npz")) == [written]
    checkpoints.write(written, {}, {"step": 4})  # and nothing stands in the way of the next
    assert checkpoints.read(written)[1]["step"] == 4
