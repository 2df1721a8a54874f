"""Sets as they are published: whatever the form, the same images are bit for bit the same data set."""

import pickle
import warnings

import numpy as np
import published_sets
import pytest
from published_sets import COLOURED, GREY, HELD_OUT, HELD_OUT_LABELS, IMAGES, LABELS, NAMES, rows_of

from minidiff import datasets
from minidiff.datasets import LoadingOptions
from minidiff.options import OptionError


def assert_same(data, other):
    for name in ("x", "held_out", "labels", "held_out_labels"):
        found, expected = getattr(data, name), getattr(other, name)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        assert found.dtype == expected.dtype
    assert data.units == other.units and data.classes == other.classes


def from_arrays(images, held_out):
    return datasets.from_raw(
        "mine", images, LABELS, held_out=held_out, held_out_labels=HELD_OUT_LABELS, limits=(0, 255)
    )


@pytest.mark.parametrize("write", COLOURED.values(), ids=COLOURED)
def test_every_form_of_coloured_images_is_the_same_set(tmp_path, write):
    data = datasets.load(write(tmp_path, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS))
    assert_same(data, from_arrays(IMAGES, HELD_OUT))
    assert data.class_names == (NAMES if "cifar" in write.__name__ else ())
    assert data.left_out == ("val_images, val_labels" if write is published_sets.medmnist else "")


@pytest.mark.parametrize("write", GREY.values(), ids=GREY)
def test_every_form_of_grey_images_is_the_same_set(tmp_path, write):
    grey, held_out = IMAGES[..., :1], HELD_OUT[..., :1]
    assert_same(
        datasets.load(write(tmp_path, grey, LABELS, held_out, HELD_OUT_LABELS)), from_arrays(grey, held_out)
    )


def test_the_pickles_of_these_tests_are_what_python_2_makes():
    batch = {b"data": rows_of(IMAGES), b"labels": LABELS.tolist(), b"batch_label": b"x" * 300}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core is numpy._core today
        found = pickle.loads(published_sets.pickled_by_python_2(batch), encoding="bytes")
    np.testing.assert_array_equal(found.pop(b"data"), batch.pop(b"data"))
    assert found == batch


def test_two_spellings_of_the_same_idx_file_are_one(tmp_path):
    published_sets.GREY["MNIST, unpacked"](tmp_path, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    for path in sorted(tmp_path.glob("t*")):
        path.with_name(path.name.replace("-idx", ".idx")).write_bytes(path.read_bytes())
    assert_same(datasets.load(tmp_path), from_arrays(IMAGES[..., :1], HELD_OUT[..., :1]))


@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
def test_one_file_of_cifar_is_read_alone(tmp_path, name):
    published_sets.cifar10_binary(tmp_path, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    data = datasets.load(tmp_path / name)
    images, labels = (HELD_OUT, HELD_OUT_LABELS) if "test" in name else (IMAGES[3:], LABELS[3:])
    np.testing.assert_array_equal(data.units.to_units(data.x), images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.class_names == NAMES and data.classes == 3


MALFORMED = {
    "cut short": ("data_batch_1.bin", lambda content: content[:-1], "expected records of 3073 bytes"),
    "empty": ("data_batch_1.bin", lambda content: b"", "expected records of 3073 bytes, .* got 0 bytes"),
    "a label without a name": ("data_batch_1.bin", lambda content: b"\7" + content[1:], "labels below 3"),
    "a pickle that is cut": ("data_batch_1", lambda content: content[:-9], "damaged"),
    "another pickle": ("data_batch_1", lambda content: pickle.dumps([1, 2]), "expected a pickled dictionary"),
    "without images": ("data_batch_1", lambda content: pickle.dumps({"labels": [1]}), "under the key data"),
    "more bytes": ("data_batch_1", lambda content: content.replace(b"u1", b"u2"), "damaged"),
    "labels that are none": (
        "test_batch",
        lambda content: content.replace(b"labels", b"labelz"),
        "the key labels",
    ),
    "a function": (
        "batches.meta",
        lambda content: b"cos\nsystem\nX\2\0\0\0ls\x85R.",
        "os.system.* not allowed",
    ),
    "names that are none": (
        "batches.meta",
        lambda content: pickle.dumps({"label_names": [1]}),
        "list of names",
    ),
}


@pytest.mark.parametrize(("name", "change", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_cifar_is_refused_with_the_name_of_the_file(tmp_path, name, change, message):
    write = published_sets.cifar10_binary if name.endswith(".bin") else published_sets.cifar10_python
    write(tmp_path, IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(tmp_path)
    named = tmp_path if "below" in message else path
    assert str(named) in str(caught.value) and "\n" not in str(caught.value)


# ---- options of loading


def test_channels_that_come_first_are_taken_on_request_and_the_refusal_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=HELD_OUT, y_test=HELD_OUT_LABELS)
    first = {"x_train": np.moveaxis(IMAGES, -1, 1), "x_test": np.moveaxis(HELD_OUT, -1, 1)}
    np.savez(tmp_path / "b.npz", y_train=LABELS, y_test=HELD_OUT_LABELS, **first)
    with pytest.raises(ValueError, match=r"channels last.*--channels-first"):
        datasets.load(tmp_path / "b.npz")
    data = datasets.load(tmp_path / "b.npz", options=LoadingOptions(channels_first=True))
    assert_same(data, datasets.load(tmp_path / "a.npz"))
    assert data.x[:2].flags.c_contiguous
    np.save(tmp_path / "flat.npy", IMAGES[..., 0])
    with pytest.raises(OptionError, match=r"flat.npy: --channels-first takes images \(N, C, H, W\)"):
        datasets.load(tmp_path / "flat.npy", options=LoadingOptions(channels_first=True))


def test_a_part_of_ones_own_is_held_out_and_the_other_is_said_to_be_left_out(tmp_path):
    (tmp_path / "cifar").mkdir()
    published_sets.cifar10_binary(tmp_path / "cifar", IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    np.savez(tmp_path / "mine.npz", images=IMAGES[:3], labels=LABELS[:3])
    data = datasets.load(tmp_path / "cifar", options=LoadingOptions(held_out=str(tmp_path / "mine.npz")))
    np.testing.assert_array_equal(data.units.to_units(data.held_out), IMAGES[:3])
    np.testing.assert_array_equal(data.held_out_labels, LABELS[:3])
    assert len(data.x) == len(IMAGES) and data.left_out == "2 samples of its own to hold out"


def write_folders(folder, names):
    from PIL import Image

    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.fromarray(IMAGES[i]).save(folder / name / "image.png")
    return folder


def test_classes_to_hold_out_are_those_of_the_same_name(tmp_path):
    train = write_folders(tmp_path / "train", ["ant", "bee", "cat"])
    held_out = LoadingOptions(held_out=str(write_folders(tmp_path / "other", ["cat", "bee"])))
    data = datasets.load(train, options=held_out)
    assert data.class_names == ("ant", "bee", "cat") and data.labels.tolist() == [0, 1, 2]
    assert data.held_out_labels.tolist() == [1, 2]
    write_folders(tmp_path / "other", ["dog"])
    with pytest.raises(ValueError, match="the class dog is none of those to train on"):
        datasets.load(train, options=held_out)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("moons", {"channels_first": True}),
        ("digits", {"size": "4"}),
        ("a.npy", {"skip_damaged": True}),
        ("mnist", {"grey": True}),
        ("folder", {"channels_first": True}),
    ],
)
def test_options_that_do_not_apply_to_the_data_are_refused(tmp_path, source, options):
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "mnist").mkdir()
    GREY["MNIST"](tmp_path / "mnist", IMAGES, LABELS, HELD_OUT, HELD_OUT_LABELS)
    write_folders(tmp_path / "folder", ["ant", "bee"])
    path = source if source in datasets.NAMES else tmp_path / source
    flag = f"--{next(iter(options)).replace('_', '-')}"
    with pytest.raises(OptionError, match=f"{flag} does not apply to this kind of data"):
        datasets.load(path, options=LoadingOptions(**options))
