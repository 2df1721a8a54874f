"""Sections of facts and arrays are read exactly as they were written, or not at all."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import minidiff
from minidiff import checkpoints

SECTIONS = {
    "net": ({"step": 3, "settings": {"lr": 0.1}}, {"a/w": np.arange(3, dtype=np.float32)}),
    "batches": ({}, {"order": np.array([2, 0, 1])}),
    "empty": ({}, {}),
}
KNOWN = set(SECTIONS)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Any characters that the name of a file in an archive may have; a slash ends the name of a section.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
array_names = text.filter(lambda name: not name.endswith(".npy"))
section_names = text.map(lambda name: name.replace("/", "-"))
arrays = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", ">f4", "i8", "u8", "i4", "u1", "?", "c8"]),
    hnp.array_shapes(min_dims=0, min_side=0),
)
sections = st.dictionaries(
    section_names,
    st.tuples(
        st.dictionaries(st.text(max_size=5), json_values, max_size=3),
        st.dictionaries(array_names, arrays, max_size=3),
    ),
    max_size=4,
)


def write_as(path, version, stored, **changes):
    """A file of another version of the format, with a checksum that is right."""
    about = {name: facts for name, (facts, _) in stored.items()}
    text = json.dumps({"version": version, "sections": about} | changes)
    members = {f"{name}/{key}": a for name, (_, arrays) in stored.items() for key, a in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **members, **{"facts.json": np.frombuffer(text.encode(), np.uint8)})
    head = buffer.getvalue()[:-2] + (64).to_bytes(2, "little")  # the length of the archive's comment
    path.write_bytes(head + hashlib.sha256(head).hexdigest().encode())


def assert_refused(path):
    """A ValueError of one line that names the file; returns it."""
    with pytest.raises(ValueError) as caught:
        checkpoints.read(path, KNOWN)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    for section, (facts, arrays) in expected.items():
        assert got[section][0] == facts and got[section][1].keys() == arrays.keys()
        for name, array in arrays.items():
            other = got[section][1][name]
            assert other.dtype == array.dtype and other.shape == array.shape
            assert other.tobytes() == array.tobytes()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoints.write(path, SECTIONS)
    return path


# ---- written and read


@given(sections=sections)
def test_facts_and_arrays_of_any_sections_are_read_as_they_were_written(tmp_path_factory, sections):
    path = tmp_path_factory.getbasetemp() / "sections.npz"
    checkpoints.write(path, sections)
    got, writer = checkpoints.read(path, set(sections))
    assert_equal(got, sections)
    assert writer == f"minidiff {minidiff.__version__}"


def test_sections_that_are_known_and_absent_do_not_matter(written):
    assert_equal(checkpoints.read(written, KNOWN | {"more"})[0], SECTIONS)


def test_an_array_may_have_the_name_of_the_facts(tmp_path):
    sections = {"facts.json": ({"a": 1}, {"facts.json": np.ones(2), "file": np.zeros(1)})}
    checkpoints.write(tmp_path / "c.npz", sections)
    assert_equal(checkpoints.read(tmp_path / "c.npz", set(sections))[0], sections)


def test_the_state_of_a_random_generator_survives(tmp_path):
    rng = np.random.default_rng(5)
    rng.integers(0, 9, 3, dtype=np.int32)  # leaves half of a draw in the generator
    checkpoints.write(tmp_path / "c.npz", {"random": ({"generator": rng.bit_generator.state}, {})})
    other = np.random.default_rng()
    sections, _ = checkpoints.read(tmp_path / "c.npz", {"random"})
    other.bit_generator.state = sections["random"][0]["generator"]
    np.testing.assert_array_equal(other.integers(0, 99, 9, np.int32), rng.integers(0, 99, 9, np.int32))


def test_arrays_that_are_views_or_not_contiguous_are_written_by_their_values(tmp_path):
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    checkpoints.write(tmp_path / "c.npz", {"s": ({}, {"a": array})})
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "c.npz", {"s"})[0]["s"][1]["a"], array)


def test_it_is_an_ordinary_npz_that_numpy_reads_without_pickle(written):
    with np.load(written, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["net/a/w"], SECTIONS["net"][1]["a/w"])
        assert set(archive.files) == {"net/a/w", "batches/order", "facts.json"}


def test_the_same_content_gives_the_same_bytes(written, tmp_path):
    checkpoints.write(tmp_path / "again.npz", SECTIONS)
    assert (tmp_path / "again.npz").read_bytes() == written.read_bytes()


# ---- other versions


@pytest.mark.parametrize("name", ["weather", "a section", "Ünïcode"])
def test_a_section_that_is_not_known_is_refused_with_the_version_that_wrote_it(tmp_path, monkeypatch, name):
    path = tmp_path / "c.npz"
    monkeypatch.setattr(checkpoints, "__version__", "0.9")
    checkpoints.write(path, SECTIONS | {name: ({}, {"a": np.ones(2)})})
    assert f"written by minidiff 0.9 and has parts that this version does not know: {name}" in assert_refused(
        path
    )
    checkpoints.read(path, KNOWN | {name})


@pytest.mark.parametrize("version", [0, 3, 7])
def test_another_format_is_refused_with_its_version_and_writer(tmp_path, version):
    path = tmp_path / "c.npz"
    write_as(path, version, SECTIONS, written_by="minidiff 0.9")
    assert f"minidiff 0.9 in format {version}, this version reads up to 2" in assert_refused(path)
    write_as(path, 2, SECTIONS, written_by="minidiff 0.9")  # and it is the version that was refused
    assert checkpoints.read(path, KNOWN)[1] == "minidiff 0.9"


def test_a_newer_format_is_refused_before_its_content_is_read(tmp_path):
    path = tmp_path / "c.npz"
    write_as(path, 3, {"": ({}, {"w": np.ones(1)})}, sections="another layout")
    assert "another version of minidiff in format 3" in assert_refused(path)


def test_a_file_with_missing_facts_is_refused_although_its_checksum_is_right(tmp_path):
    path = tmp_path / "c.npz"
    write_as(path, 2, SECTIONS, sections={})  # arrays whose sections are not listed are found all the same
    assert checkpoints.read(path, KNOWN)[0]["net"][1].keys() == SECTIONS["net"][1].keys()
    write_as(path, 1, {})
    assert "'settings' is missing" in assert_refused(path)


def test_what_is_written_has_version_2_and_its_writer(written):
    with np.load(written) as archive:
        facts = json.loads(archive["facts.json"].tobytes())
    assert (facts["version"], facts["written_by"]) == (2, f"minidiff {minidiff.__version__}")
    assert checkpoints.VERSION == 2


# ---- damage


def test_any_flipped_byte_is_noticed(written):
    content = written.read_bytes()
    assert len(content) < 2500
    with open(written, "r+b", buffering=0) as file:
        for position, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            assert_refused(written)
            os.pwrite(file.fileno(), bytes([byte]), position)
    checkpoints.read(written, KNOWN)


def test_any_cut_is_noticed(written):
    for length in reversed(range(len(written.read_bytes()))):
        os.truncate(written, length)
        assert_refused(written)


@pytest.mark.parametrize("more", [b"\0", b"\n", b"0" * 64])
def test_anything_appended_or_prepended_is_noticed(written, more):
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


def run_code():
    raise AssertionError("the file's code was run")


class Malicious:
    def __reduce__(self):
        return run_code, ()


def test_a_pickle_is_neither_written_nor_opened(tmp_path):
    path, malicious = tmp_path / "c.npz", {"net": ({}, {"a": np.array([Malicious()], dtype=object)})}
    with pytest.raises(ValueError):
        checkpoints.write(path, malicious)
    assert not path.exists()
    write_as(path, 2, malicious)
    with pytest.raises(ValueError, match="pickle"):
        checkpoints.read(path, KNOWN)


# ---- read in part


def net_of(path):
    """The section `net` alone, or the one line with which it is refused."""
    try:
        with checkpoints.opened(path, KNOWN) as (sections, _):
            facts, arrays = sections["net"]
            return facts, dict(arrays)
    except (ValueError, KeyError) as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return None


def test_any_flipped_bit_is_noticed_in_what_is_read_and_harmless_in_the_rest(written):
    content, refused = written.read_bytes(), 0
    with open(written, "r+b", buffering=0) as file:
        for position, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            net = net_of(written)
            if net is None:
                refused += 1
            else:
                assert_equal({"net": net}, {"net": SECTIONS["net"]})
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert refused > len(content) / 4
    assert net_of(written) is not None


def test_any_cut_before_the_digest_is_noticed_by_who_reads_a_part(written):
    for length in reversed(range(len(written.read_bytes()) - 64)):
        os.truncate(written, length)
        assert net_of(written) is None


def test_an_array_that_is_damaged_is_refused_when_it_is_looked_up(written):
    content = written.read_bytes()
    position = content.index(SECTIONS["batches"][1]["order"].tobytes())
    written.write_bytes(content[:position] + b"\x09" + content[position + 1 :])
    with checkpoints.opened(written, KNOWN) as (sections, _):
        np.testing.assert_array_equal(sections["net"][1]["a/w"], SECTIONS["net"][1]["a/w"])
        with pytest.raises(ValueError, match=rf"{written} is damaged.*CRC"):
            sections["batches"][1]["order"]
        with pytest.raises(KeyError):
            sections["batches"][1]["other"]


def peak_of(work):
    """The most memory that the call of `work` took at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_writing_takes_no_memory_and_reading_that_of_an_array_at_a_time(tmp_path):
    path, size = tmp_path / "c.npz", 1 << 22
    arrays = {f"{i}": np.full(size, i, np.uint8) for i in range(8)}
    views = {name: array.reshape(4, -1)[::1].T for name, array in arrays.items()}
    assert peak_of(lambda: checkpoints.write(path, {"a": ({}, arrays), "b": ({}, views)})) < size
    with checkpoints.opened(path, {"a", "b"}, verify=True) as (sections, _):
        assert peak_of(lambda: [array.max() for array in sections["a"][1].values()]) < 3.2 * size
    assert peak_of(lambda: checkpoints.read(path, {"a", "b"})) > 16 * size  # and it is measured


# ---- written whole or not at all


def test_facts_that_are_not_json_leave_the_file_unchanged(written):
    before = written.read_bytes()
    with pytest.raises(TypeError):
        checkpoints.write(written, {"net": ({"net": object()}, {})})
    assert written.read_bytes() == before and os.listdir(written.parent) == [written.name]


KILLED = """
import os, signal, sys, numpy as np
from minidiff import checkpoints, files
setattr(files.os, {call!r}, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
checkpoints.write({path!r}, {{"net": ({{}}, {{"a": np.ones(100_000)}})}})
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_process_killed_while_writing_leaves_the_old_file_and_no_second_one(written, call):
    code = KILLED.format(call=call, path=str(written))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert_equal(checkpoints.read(written, KNOWN)[0], SECTIONS)
    assert list(written.parent.glob("*")) != [] and list(written.parent.glob("*.npz")) == [written]
    checkpoints.write(written, {"net": ({"step": 4}, {})})  # and the next one can be written
    assert checkpoints.read(written, KNOWN)[0]["net"][0]["step"] == 4
