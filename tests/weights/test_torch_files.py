"""PyTorch's checkpoints in both of their forms: tensors as they were saved, and damage in one clear line."""

import pickle
import re
import zipfile

import numpy as np
import pytest
from checkpoints_by_hand import FORMS, call, name, plain, storage, table, tensor, write
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutants, outcomes

from minidiff.weights import torch_files
from minidiff.weights.bfloat16 import BFLOAT16, widened

in_both_forms = pytest.mark.parametrize("form", FORMS)


@in_both_forms
@given(data=st.data())
def test_tensors_are_views_into_their_storages(form, data, tmp_path_factory):
    """Of any offset, shape and strides that stay inside: overlapping, transposed, expanded or empty."""
    path = tmp_path_factory.getbasetemp() / f"views-{form}.pt"
    kind = data.draw(st.sampled_from(["FloatStorage", "DoubleStorage", "HalfStorage", "LongStorage"]))
    numbers = np.arange(24).astype(torch_files.STORAGES[kind])
    axes = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=3))
    shape, strides = (tuple(numbers) for numbers in zip(*axes, strict=True)) if axes else ((), ())
    reach = sum((n - 1) * step for n, step in axes) if 0 not in shape else 0
    offset = data.draw(st.integers(0, 23 - reach)) if reach < 24 else 0
    stored = storage(24, kind=name("torch", kind))
    write(path, form, table(x=tensor(stored, offset, shape, strides), y=plain([1, "two"])), {"0": numbers})
    if reach >= 24:
        with pytest.raises(ValueError, match="reaches beyond its storage"):
            torch_files.read(path)
        return
    read = torch_files.read(path)
    expected = np.empty(shape, numbers.dtype)
    for index in np.ndindex(shape):
        expected[index] = numbers[offset + sum(i * step for i, step in zip(index, strides, strict=True))]
    np.testing.assert_array_equal(read["x"], expected)
    assert read["x"].dtype == numbers.dtype and read["y"] == [1, "two"]


@in_both_forms
def test_a_parameter_is_its_tensor_and_bfloat16_is_widened_exactly(form, tmp_path):
    exact = np.array([1.0, -2.5, 3e38, 0.0], "<f4")
    halves = (exact.view("<u4") >> 16).astype("<u2").view(BFLOAT16)
    parameter = call(
        name("torch._utils", "_rebuild_parameter"),
        tensor(storage(kind=name("torch", "BFloat16Storage"))),
        b"\x88",
        b"N",
    )
    write(tmp_path / "a.pt", form, parameter, {"0": halves})
    rounded = (exact.view("<u4") >> 16 << 16).view("<f4")
    np.testing.assert_array_equal(widened(torch_files.read(tmp_path / "a.pt")).ravel(), rounded)


@in_both_forms
def test_a_tensor_cannot_be_written_to(form, tmp_path):
    write(tmp_path / "a.pt", form, tensor())
    with pytest.raises(ValueError, match="read-only"):
        torch_files.read(tmp_path / "a.pt")[0, 0] = 1


WRONG = {
    "a storage that is not there": (tensor(storage(key="7")), "7|other storages"),
    "a storage of another length": (tensor(storage(count=5)), "storage"),
    "a negative offset": (tensor(offset=-1), "whole numbers"),
    "a negative stride": (tensor(offset=3, strides=(-2, -1)), "whole numbers"),
    "a shape that is too large": (tensor(shape=(3, 2)), "beyond its storage"),
    "an enormous shape": (tensor(shape=(1 << 62, 2)), "whole numbers"),
    "an enormous shape on a stride of 0": (tensor(shape=(1 << 47,) * 4, strides=(0,) * 4), "too big|shape"),
    "fewer strides than axes": (tensor(strides=(1,)), "strides"),
    "nine axes": (tensor(shape=(1,) * 9, strides=(0,) * 9), "axes"),
    "a shape that is text": (tensor(shape="22"), "not made as tensors"),
    "a tensor in place of a storage": (tensor(tensor()), "not made as tensors"),
    "a persistent id of something else": (storage(about="module"), "no storage"),
    "a persistent id that is a number": (plain(3) + b"Q", "damaged"),
    "a type that is text": (tensor(storage(kind=plain("FloatStorage"))), "damaged"),
    "a type that is a dictionary": (tensor(storage(kind=name("collections", "OrderedDict"))), "no storage"),
}


@in_both_forms
@pytest.mark.parametrize(("instructions", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_tensor_is_refused_in_one_line(form, instructions, message, tmp_path):
    path = tmp_path / "a.pt"
    write(path, form, instructions)
    (found,) = outcomes(torch_files.read, path, [path.read_bytes()])
    assert found and re.search(message, found)


OTHER_FILES = {
    "nothing": b"",
    "text": b"no checkpoint at all",
    "a pickle of plain data": pickle.dumps({"a": 1}),
    "only the beginning": pickle.dumps(torch_files.MAGIC, 2),
    "a checkpoint of another protocol": pickle.dumps(torch_files.MAGIC, 2) + pickle.dumps(7, 2),
    "an empty zip file": b"PK\5\6" + bytes(18),
}


@pytest.mark.parametrize("content", OTHER_FILES.values(), ids=OTHER_FILES)
def test_another_file_is_refused_in_one_line(content, tmp_path):
    (found,) = outcomes(torch_files.read, tmp_path / "a.pt", [content])
    assert found and "expected a PyTorch checkpoint, but " in found


def test_a_zip_file_is_refused_that_is_compressed_damaged_or_big_endian(tmp_path):
    path = tmp_path / "a.pt"
    write(path, "zip", tensor())
    sound = path.read_bytes()
    at = sound.index(np.arange(4, dtype="<f4").tobytes())
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}

    def archived(compression=zipfile.ZIP_STORED, **changed):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, content in members.items():
                archive.writestr(member, changed.get(member.split("/")[-1], content))
        return path.read_bytes()

    contents = [
        sound[:at] + b"\1" + sound[at + 1 :],
        archived(zipfile.ZIP_DEFLATED),
        archived(byteorder=b"big"),
    ]
    flipped, compressed, big = outcomes(torch_files.read, path, contents)
    assert "'data/0' in it is damaged" in flipped
    assert "in it is compressed" in compressed
    assert "not little-endian" in big


@in_both_forms
def test_mutants_of_a_file_are_refused_in_one_line_and_little_memory(form, tmp_path):
    stored = {key: np.arange(6, dtype="<f4") for key in "012"}
    tensors = {f"layer{key}.weight": tensor(storage(6, key), shape=(2, 3), strides=(3, 1)) for key in stored}
    path = tmp_path / "a.pt"
    write(path, form, table(state_dict=table(**tensors), epoch=plain(3)), stored)
    content = path.read_bytes()
    found = outcomes(torch_files.read, path, mutants(content, 2000, important=len(content)))
    refused = [message for message in found if message]
    assert len(refused) > 1000 and all(
        "expected a PyTorch checkpoint, but " in message for message in refused
    )
