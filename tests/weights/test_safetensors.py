"""safetensors: what is written is read, a damaged header is refused, and nothing is allocated on its word."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mutants import mutants, outcomes
from published_networks import FOLDER

from minidiff import weights
from minidiff.weights import safetensors
from minidiff.weights.bfloat16 import BFLOAT16, widened

names = st.text(max_size=20).filter(lambda name: name != "__metadata__" and max(name, default="") < "\ud800")
floats = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(
    arrays=st.dictionaries(names, floats, max_size=5),
    metadata=st.dictionaries(names, st.text("abc"), max_size=2),
)
def test_what_is_written_is_read(arrays, metadata, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "written.safetensors"
    safetensors.write(path, arrays, metadata)
    read = safetensors.read(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_an_array_that_is_transposed_or_of_the_other_byte_order_is_written_as_its_numbers(tmp_path):
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    safetensors.write(tmp_path / "a", {"t": numbers.T, "other": numbers.astype(">f4")})
    read = safetensors.read(tmp_path / "a")
    np.testing.assert_array_equal(read["t"], numbers.T)
    np.testing.assert_array_equal(read["other"], numbers)


def test_arrays_are_views_of_the_mapped_file_and_cannot_be_changed(tmp_path):
    safetensors.write(tmp_path / "a", {"x": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match="read-only"):
        safetensors.read(tmp_path / "a")["x"][0] = 1


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1))
def test_bfloat16_is_the_upper_half_of_a_float32(halves):
    stored = np.array(halves, "<u2").view(BFLOAT16)
    exact = np.array([half << 16 for half in halves], "<u4").view("<f4")
    assert widened(stored).tobytes() == exact.tobytes()
    assert widened(exact) is exact


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_names_in_a_file_are_said_on_one_short_line(name, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    known = safetensors.read(FOLDER / "paper" / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_bytes((FOLDER / "paper" / "config.json").read_bytes())
    for path, arrays in (
        (folder / "other.safetensors", {name: np.zeros(1, np.float32)}),
        (folder / "diffusion_pytorch_model.safetensors", known | {name: np.zeros(1, np.float32)}),
    ):
        safetensors.write(path, arrays)
        with pytest.raises(ValueError) as error:
            weights.read(path if path.stem == "other" else folder, 4)
        message = str(error.value).replace(str(folder), "")
        assert message.isprintable() and len(message) < 400


def header(about, numbers=b"", length=None):
    """The content of a file with this header, text or what JSON can have."""
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + numbers


def array(**changed):
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changed}


def without(key):
    return {"x": {name: value for name, value in array()["x"].items() if name != key}}


MALFORMED = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "no header": b"\0" * 8,
    "a header longer than the file": header(array(), b"\0" * 8, length=10_000),
    "a header of 2⁶³ bytes": header(array(), b"\0" * 8, length=1 << 63),
    "no JSON": header(b"{x}"),
    "JSON that is no table": header([1, 2]),
    "text that is no UTF-8": header(b'{"\xff": 1}'),
    "deep nesting": header(b"[" * 200_000),
    "a name twice": header(b'{"x": 1, "x": 2}'),
    "a key twice": header(b'{"x": {"dtype": "F32", "dtype": "F32"}}'),
    "an array that is a number": header({"x": 1}),
    **{f"no {key}": header(without(key), b"\0" * 8) for key in ("dtype", "shape", "data_offsets")},
    "another key": header(array(more=1), b"\0" * 8),
    "a dtype that is not known": header(array(dtype="I64"), b"\0" * 8),
    "a dtype that is a list": header(array(dtype=["F32"]), b"\0" * 8),
    "a dtype that is a table": header(array(dtype={}), b"\0" * 8),
    "a shape that is a number": header(array(shape=2), b"\0" * 8),
    "a negative shape": header(array(shape=[-2]), b"\0" * 8),
    "a shape of two negative numbers": header(array(shape=[-1, -2]), b"\0" * 8),
    "a shape that is not whole": header(array(shape=[2.0]), b"\0" * 8),
    "a shape of booleans": header(array(shape=[True, True], data_offsets=[0, 4]), b"\0" * 4),
    "nine axes": header(array(shape=[1] * 8 + [2]), b"\0" * 8),
    "an enormous shape": header(array(shape=[1 << 62, 4]), b"\0" * 8),
    "one offset": header(array(data_offsets=[8]), b"\0" * 8),
    "offsets in the wrong order": header(array(data_offsets=[8, 0]), b"\0" * 8),
    "offsets that leave the file": header(array(data_offsets=[0, 16], shape=[4]), b"\0" * 8),
    "offsets that do not fit the shape": header(array(data_offsets=[0, 4]), b"\0" * 8),
    "a gap before": header(array(data_offsets=[4, 12]), b"\0" * 12),
    "bytes left over": header(array(), b"\0" * 9),
    "an overlap": header(
        {
            name: {"dtype": "F32", "shape": [2], "data_offsets": [4 * k, 4 * k + 8]}
            for k, name in enumerate("ab")
        },
        b"\0" * 12,
    ),
    "the same numbers twice": header({name: array()["x"] for name in "ab"}, b"\0" * 8),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "bad.safetensors"
    (message,) = outcomes(safetensors.read, path, [content])
    assert message and "expected safetensors, but " in message


def test_mutants_of_a_file_are_refused_in_one_line_and_little_memory(tmp_path):
    arrays = {f"down.{n}.weight": np.full((n, 3), n, np.float16 if n % 2 else np.float32) for n in range(5)}
    safetensors.write(tmp_path / "a", arrays, {"format": "pt"})
    content = (tmp_path / "a").read_bytes()
    found = outcomes(safetensors.read, tmp_path / "a", mutants(content, 2000, important=350))
    refused = [message for message in found if message]
    assert len(refused) > 1000 and all("expected safetensors, but " in message for message in refused)
