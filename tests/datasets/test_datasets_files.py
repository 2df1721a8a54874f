"""Data from files: what was written is read, and all damage is one ValueError that names the file."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minidiff import datasets
from minidiff.datasets.idx import read_idx

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 4, 5), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 3


def idx_bytes(array, shape=None, magic=None):
    shape = array.shape if shape is None else shape
    magic = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    return magic + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def all_in_units(data):
    """All samples, held out or not, in their own units and sorted, to compare with what was written."""
    samples = data.units.to_units(np.concatenate([data.x, data.held_out]))
    return np.sort(samples.reshape(len(samples), -1), axis=0)


def assert_holds(data, written):
    np.testing.assert_array_equal(all_in_units(data), np.sort(written.reshape(len(written), -1), axis=0))


def assert_refused(path, message, names=None):
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(path)
    assert str(names or path) in str(caught.value) and "\n" not in str(caught.value)


# IDX


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_images_are_read_with_the_labels_beside_them(tmp_path, pack, ending):
    path = write(tmp_path / f"train-images-idx3-ubyte{ending}", pack(idx_bytes(IMAGES)))
    assert datasets.load(path).labels is None
    write(tmp_path / "train-labels-idx1-ubyte.gz", gzip.compress(idx_bytes(LABELS)))
    for source in (path, str(path), tmp_path):
        data = datasets.load(source)
        assert data.x.shape == (27, 4, 5, 1) and data.held_out.shape == (3, 4, 5, 1) and data.classes == 3
        assert (data.units.offset, data.units.scale) == (127.5, 127.5)
        assert_holds(data, IMAGES)
        for x, labels in ((data.x, data.labels), (data.held_out, data.held_out_labels)):
            for image, label in zip(data.units.to_units(x), labels, strict=True):
                (index,) = np.flatnonzero((image[..., 0] == IMAGES).all(axis=(1, 2)))
                assert label == LABELS[index]


def test_the_other_common_spelling_of_idx_names_is_read(tmp_path):
    write(tmp_path / "t10k-images.idx3-ubyte", idx_bytes(IMAGES))
    write(tmp_path / "t10k-labels.idx1-ubyte", idx_bytes(LABELS))
    assert datasets.load(tmp_path).classes == 3


def test_a_folder_with_train_and_t10k_holds_out_t10k(tmp_path):
    for name, rows in (("t10k", slice(0, 10)), ("train", slice(10, 30))):
        write(tmp_path / f"{name}-images-idx3-ubyte", idx_bytes(IMAGES[rows]))
        write(tmp_path / f"{name}-labels-idx1-ubyte", idx_bytes(LABELS[rows]))
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.units.to_units(data.x)[..., 0], IMAGES[10:])
    np.testing.assert_array_equal(data.units.to_units(data.held_out)[..., 0], IMAGES[:10])
    np.testing.assert_array_equal(data.labels, LABELS[10:])
    np.testing.assert_array_equal(data.held_out_labels, LABELS[:10])
    write(tmp_path / "letters-train-images-idx3-ubyte", idx_bytes(IMAGES))
    assert_refused(tmp_path, "several sets of images")


def test_labels_that_are_not_one_for_each_image_are_refused(tmp_path):
    path = write(tmp_path / "train-images-idx3-ubyte", idx_bytes(IMAGES))
    labels = write(tmp_path / "train-labels-idx1-ubyte", idx_bytes(LABELS[:-1]))
    assert_refused(path, "expected 30 labels.*got 29", names=labels)
    write(labels, idx_bytes(IMAGES))
    assert_refused(path, "IDX file of labels", names=labels)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(IMAGES)[:-1], "declares 600 bytes of data, but only 599 follow"),
        (idx_bytes(IMAGES) + b"\0", "declares 600 bytes of data, but more follow"),
        (idx_bytes(IMAGES, shape=(31, 4, 5)), "declares 620 bytes of data, but only 600 follow"),
        (idx_bytes(IMAGES, shape=(29, 4, 5)), "declares 580 bytes of data, but more follow"),
        (idx_bytes(IMAGES, shape=(2**32 - 1,) * 3), "but only 600 follow"),
        (idx_bytes(IMAGES, shape=(0, 2**32 - 1, 5)), "sizes of at least 1"),
        (idx_bytes(IMAGES)[:13], "header is cut short: expected 16 bytes, got 13"),
        (
            idx_bytes(LABELS),
            "IDX file of images .magic 0x00000803., got a file that begins with 0x00000801",
        ),
        (idx_bytes(IMAGES, magic=b"\0\0\x0d\3"), "begins with 0x00000d03"),
        (idx_bytes(IMAGES[:1]), "at least 2 samples, got 1"),
        (idx_bytes(np.full((5, 2, 2), 9, np.uint8)), "all the same"),
    ],
)
def test_inconsistent_idx_files_are_refused(tmp_path, pack, content, message):
    assert_refused(write(tmp_path / "images", pack(content)), message)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_giant_sizes_in_a_header_allocate_no_memory(tmp_path, pack):
    path = write(tmp_path / "images", pack(idx_bytes(IMAGES, shape=(60_000, 28, 28))))
    tracemalloc.start()
    assert_refused(path, "declares 47040000 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_gz_that_ends_early_or_is_corrupt_is_refused(tmp_path):
    packed = gzip.compress(idx_bytes(IMAGES))
    for content in (
        packed[:-1],
        packed[:-9],
        packed[:100],
        packed[:11],
        packed[:2],
        packed[:-5] + b"\0" + packed[-4:],
    ):
        assert_refused(write(tmp_path / "images.gz", content), "cannot be read to its end")
    assert_refused(write(tmp_path / "images.gz", gzip.compress(b"")), "empty")


def test_empty_and_foreign_files_are_refused(tmp_path):
    assert_refused(write(tmp_path / "images", b""), "got an empty file")
    assert_refused(write(tmp_path / "notes.txt", b"hello, world"), "begins with b'hello,'")
    Image.fromarray(IMAGES[0]).save(tmp_path / "lone.png")
    assert_refused(tmp_path / "lone.png", "a folder or zip of images")


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "file"


damage = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3)
small = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@given(shape=small, cut=st.integers(0, 80), changes=damage, packed=st.booleans())
def test_a_damaged_idx_file_is_refused_or_read_as_it_was_written(scratch, shape, cut, changes, packed):
    """Damage to the header or to the gz around it, and truncation anywhere."""
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    whole = idx_bytes(array)
    content = bytearray(gzip.compress(whole, mtime=0) if packed else whole)
    for index, value in changes:
        content[index % (len(content) if packed else 16)] = value
    scratch.write_bytes(content[: len(content) - cut])
    try:
        read = read_idx(scratch, ndim=3)
    except ValueError as error:
        assert str(scratch) in str(error)
    else:
        assert read.tobytes() == array.tobytes()


@given(index=st.integers(4, 15), value=st.integers(0, 255))
def test_a_changed_size_in_the_header_is_refused(scratch, index, value):
    content = bytearray(idx_bytes(IMAGES))
    changed = content[index] != value
    content[index] = value
    scratch.write_bytes(content)
    if changed:
        with pytest.raises(ValueError):
            read_idx(scratch, ndim=3)
    else:
        np.testing.assert_array_equal(read_idx(scratch, ndim=3), IMAGES)


@pytest.mark.skipif(
    "MINIDIFF_DATA" not in os.environ, reason="MINIDIFF_DATA names no folder with mnist/ in it"
)
def test_mnist_loads_from_its_published_files():
    folder = Path(os.environ["MINIDIFF_DATA"]) / "mnist"
    data, test = datasets.load(folder), datasets.load(folder / "t10k-images-idx3-ubyte.gz")
    assert data.x.shape[1:] == (28, 28, 1) and data.classes == 10 and len(data.labels) == len(data.x) >= 9000
    assert len(test.x) + len(test.held_out) == 10_000
    counts = np.bincount(np.concatenate([test.labels, test.held_out_labels]))
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    levels = test.units.to_units(test.x)
    np.testing.assert_array_equal(levels, np.round(levels))
    assert levels.min() == 0 and levels.max() == 255
    assert levels.mean() == pytest.approx(33.8, abs=0.2)


# .npy and .npz


@pytest.mark.parametrize(
    "array",
    [
        IMAGES,
        IMAGES / 255,
        IMAGES > 128,
        IMAGES.astype(">u2"),
        np.asfortranarray(IMAGES),
        IMAGES[..., None].repeat(3, -1),
        RNG.standard_normal(40),
        RNG.standard_normal((40, 3)).astype(np.float16),
    ],
)
def test_npy_and_npz_are_read_as_written(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", array)
    np.savez_compressed(tmp_path / "c.npz", array)
    for name in ("a.npy", "b.npz", "c.npz"):
        data = datasets.load(tmp_path / name)
        written = np.sort(array.reshape(len(array), -1), axis=0)
        np.testing.assert_allclose(all_in_units(data), written, atol=3e-6, rtol=1e-6)


@pytest.mark.parametrize("key", ["images", "samples", "anything"])
def test_samples_and_labels_of_an_npz_are_found_by_name(tmp_path, key):
    np.savez(tmp_path / "a.npz", labels=LABELS, **{key: IMAGES})
    data = datasets.load(tmp_path / "a.npz")
    assert data.classes == 3 and len(data.labels) == 27
    assert_holds(data, IMAGES)


def test_an_ambiguous_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, this=IMAGES, that=IMAGES)
    assert_refused(path, "called images, samples, .*, or only one array; it holds this, that")
    np.savez(path, labels=LABELS)
    assert_refused(path, "it holds labels")
    zipfile.ZipFile(path, "w").close()
    assert_refused(path, "it holds nothing")
    np.savez(path, images=IMAGES, labels=LABELS[1:])
    assert_refused(path, "expected 30 integer labels")


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=9, unique=True))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_a_file_has_are_said_on_one_short_line(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp()
    for path, held in (("refused", names), ("left_out", ["images", *names]), ("only", names[:1])):
        with zipfile.ZipFile(folder / f"{path}.npz", "w") as archive:
            for name in held:
                buffer = io.BytesIO()
                np.save(buffer, IMAGES)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
    try:
        datasets.load(folder / "refused.npz")
    except ValueError as error:
        message = str(error).removeprefix(f"{folder}")
        assert message.isprintable() and len(message) < 500
    assert len(datasets.load(folder / "only.npz").x) == 27
    left_out = datasets.load(folder / "left_out.npz").left_out
    assert left_out.isprintable() and len(left_out) < 400


class Bomb:
    """Unpickling it would create the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(tmp_path):
    bomb = np.array([Bomb(tmp_path / "exploded"), None], object)
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=bomb)
    for name in ("a.npy", "b.npz"):
        assert_refused(tmp_path / name, "real numbers")
    assert not (tmp_path / "exploded").exists()


def npy_bytes(header):
    header = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(48)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (13,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (11,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000000000, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 100000000000000000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -12)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (12, True)}",
        "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (12,)}",
        "{'descr': '<nonsense', 'fortran_order': False, 'shape': (12,)}",
        "{'descr': '<f4'}",
        "(" * 9000,
        "-" * 9000 + "1",
        "",
    ],
)
def test_inconsistent_npy_headers_are_refused(tmp_path, header):
    assert_refused(write(tmp_path / "a.npy", npy_bytes(header)), "expected|declares|unknown header")


def test_npy_files_of_an_unknown_version_are_refused(tmp_path):
    content = npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (12,)}")
    assert_refused(write(tmp_path / "a.npy", content[:6] + b"\3" + content[7:]), "unknown header")


def saved(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


NPZ = saved(np.savez, images=IMAGES, labels=LABELS), saved(np.savez_compressed, images=IMAGES, labels=LABELS)


@given(content=st.sampled_from(NPZ), changes=damage, cut=st.integers(0, 3000), cuts=st.booleans())
def test_a_damaged_npz_is_refused_or_read_as_it_was_written(scratch, content, changes, cut, cuts):
    content = bytearray(content)
    for index, value in changes:
        content[index % len(content)] = value
    scratch.write_bytes(content[:cut] if cuts else content)
    try:
        data = datasets.load(scratch)
    except ValueError as error:
        assert str(scratch) in str(error)
    else:
        assert_holds(data, IMAGES)


# Folders of images


def test_a_folder_of_grey_images_is_read(tmp_path):
    for i, pixels in enumerate(IMAGES):
        write_image(tmp_path / f"{i:02}.PNG", pixels)
    write(tmp_path / ".hidden.png", b"not an image")
    write(tmp_path / "README.txt", b"not an image either")
    data = datasets.load(tmp_path)
    assert data.x.shape == (27, 4, 5, 1) and data.labels is None and data.units.scale == 127.5
    assert_holds(data, IMAGES)


def test_sub_folders_are_classes(tmp_path):
    for i, pixels in enumerate(IMAGES):
        write_image(tmp_path / "cba"[LABELS[i]] / f"{i}.png", pixels)
    (tmp_path / "empty").mkdir()
    data = datasets.load(tmp_path)
    assert data.classes == 3 and len(data.x) == 27
    for image, label in zip(data.units.to_units(data.x)[..., 0], data.labels, strict=True):
        (index,) = np.flatnonzero((image == IMAGES).all(axis=(1, 2)))
        assert label == 2 - LABELS[index]
    write_image(tmp_path / "here.png", IMAGES[0])
    assert_refused(tmp_path, "got both")
