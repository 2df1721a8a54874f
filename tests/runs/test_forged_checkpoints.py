"""Checkpoints with a right digest and one thing of another kind in them: refused in one line, or as good as others."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import create, train

from minidiff.diffusion.samplers import NotFinite
from minidiff.runs import Run, checkpoints
from minidiff.runs.run import SECTIONS
from minidiff.training import Diverged

VALUES = (None, True, -1, 0, 1.5, "x", [], {}, [1, 2], {"a": 1})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run after 3 steps, and the sections of its checkpoint."""
    folder = tmp_path_factory.mktemp("forged")
    np.save(folder / "points.npy", np.random.default_rng(0).normal(3.0, 2.0, (40, 2)))
    run = create(folder / "run", folder / "points.npy", times="loss-aware")
    train(run, 3)
    run.save()
    return run.folder, checkpoints.read(run.folder / "checkpoint.npz", SECTIONS)[0]


def paths_in(facts, path=()):
    """The path of keys to every value in a structure of dictionaries and lists."""
    yield path
    for key in facts if isinstance(facts, dict) else range(len(facts)) if isinstance(facts, list) else ():
        yield from paths_in(facts[key], (*path, key))


def with_value(facts, path, value):
    """A copy of the structure with another value there."""
    if not path:
        return value
    copy = facts.copy()
    copy[path[0]] = with_value(facts[path[0]], path[1:], value)
    return copy


def assert_refused_or_usable(folder):
    for use in (lambda: Run.open(folder).sample(2), lambda: train(Run.resume(folder), 4)):
        try:
            use()
        except (ValueError, Diverged, NotFinite) as error:
            assert "\n" not in str(error) and len(str(error)) < 400


@given(data=st.data())
def test_facts_of_another_kind_are_refused(original, data):
    folder, sections = original
    name = data.draw(st.sampled_from(sorted(sections)))
    facts, arrays = sections[name]
    for path in paths_in(facts):
        value = data.draw(st.sampled_from(VALUES))
        if path:
            forged = sections | {name: (with_value(facts, path, value), arrays)}
            checkpoints.write(folder / "checkpoint.npz", forged)
            assert_refused_or_usable(folder)


def test_arrays_of_another_kind_are_refused(original):
    folder, sections = original
    for name, (facts, arrays) in sections.items():
        for key, array in arrays.items():
            others = np.zeros(0), array[..., None], array.astype("U8"), np.full(array.shape, -1), np.array(3)
            for other in (*others, np.full(array.shape, np.nan)):
                checkpoints.write(
                    folder / "checkpoint.npz", sections | {name: (facts, arrays | {key: other})}
                )
                assert_refused_or_usable(folder)


def forge(path, archive):
    """Write an archive whose comment is the digest of it."""
    archive += b"0" * 64
    content = archive[:-66] + (64).to_bytes(2, "little")
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def archive_of(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(content):
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(content, np.uint8))
    return stream.getvalue()


FACTS = "facts.json"
HUGE = npy(b"{}").replace(b"'shape': (2,)", b"'shape': (99999999999,)")
ARCHIVES = {
    "no archive": b"\0" * 99,
    "an empty archive": archive_of(),
    "no arrays": archive_of(**{f"{FACTS}.npy": b"nothing of the kind"}),
    "an array that is cut short": archive_of(**{f"{FACTS}.npy": npy(b"{}" * 99)[:-9]}),
    "an array of a size that is not there": archive_of(**{f"{FACTS}.npy": HUGE}),
    "no JSON": archive_of(**{f"{FACTS}.npy": npy(b"{{{{")}),
    "no text": archive_of(**{f"{FACTS}.npy": npy(b"\xff\xfe\xff")}),
    "a number": archive_of(**{f"{FACTS}.npy": npy(b"7")}),
    "a list": archive_of(**{f"{FACTS}.npy": npy(b'[{"version": 2}]')}),
    "no version": archive_of(**{f"{FACTS}.npy": npy(b"{}")}),
    "sections that are none": archive_of(**{f"{FACTS}.npy": npy(b'{"version": 2, "sections": [1]}')}),
    "version 1 without anything": archive_of(**{f"{FACTS}.npy": npy(b'{"version": 1}')}),
    "brackets within brackets": archive_of(**{f"{FACTS}.npy": npy(b"[" * 100_000)}),
}


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=ARCHIVES)
def test_another_archive_with_a_right_digest_is_refused(tmp_path, archive):
    forge(tmp_path / "checkpoint.npz", archive)
    with pytest.raises(ValueError, match=r"not a checkpoint|format") as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@given(st.integers(0, 10**6), st.binary(max_size=8))
def test_a_changed_archive_with_a_right_digest_is_refused_or_usable(original, index, change):
    folder, sections = original
    path = folder / "checkpoint.npz"
    checkpoints.write(path, sections)
    content = bytearray(path.read_bytes())[:-64]
    index %= len(content)
    content[index : index + len(change)] = change
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    assert_refused_or_usable(folder)
