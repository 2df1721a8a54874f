"""The safetensors format: a header in JSON, then the numbers of every array, one after the other.

    8 bytes      the length of the header, little-endian
    the header   {"name": {"dtype": "F32", "shape": [3, 3, 128, 128], "data_offsets": [begin, end]}, …}
    the numbers  row-major and little-endian; offsets count from here, and the arrays cover them without gap or overlap

Nothing in a file is executed. Nothing is allocated on the word of a header either: it is checked against the length of
the file, which is then mapped into memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import files
from minidiff.weights.bfloat16 import BFLOAT16

TYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
}
LONGEST_HEADER = 100_000_000  # bytes, as the format's own reader allows
METADATA = "__metadata__"


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name: views into the mapped file, those of BF16 for `bfloat16.widened`.

    Raises FileNotFoundError where there is no file, and ValueError, in one line, for what is not such a file.
    """
    path = Path(path)
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    try:
        header, data = _split(content)
        return {name: _array(data, **header[name]) for name in _checked(header, data.size)}
    except ValueError as error:
        raise ValueError(f"{path}: expected safetensors, but {error}") from error


def _split(content: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The header, without its metadata, and the bytes behind it."""
    length = int.from_bytes(content[:8].tobytes(), "little")
    if not 2 <= length <= min(LONGEST_HEADER, content.size - 8):
        raise ValueError(f"its {content.size} bytes do not hold the header that it begins with")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("its header has a name twice")
        return dict(pairs)

    try:
        header = json.loads(content[8 : 8 + length].tobytes().decode(), object_pairs_hook=once)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    header.pop(METADATA, None)
    return header, content[8 + length :]


def _checked(header: dict[str, Any], size: int) -> list[str]:
    """The names in the order of their numbers, which must cover `size` bytes without gap or overlap."""
    for name, about in header.items():
        if not isinstance(about, dict) or about.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name!r:.80} has not a dtype, a shape and data_offsets")
        if about["dtype"] not in tuple(TYPES):
            raise ValueError(
                f"{name!r:.80} has the type {about['dtype']!r:.80}; expected one of {', '.join(TYPES)}"
            )
        for key in ("shape", "data_offsets"):
            if not isinstance(about[key], list) or not all(type(n) is int and n >= 0 for n in about[key]):
                raise ValueError(f"the {key} of {name!r:.80} are no list of whole numbers")
        if len(about["data_offsets"]) != 2 or len(about["shape"]) > 8:
            raise ValueError(f"{name!r:.80} has not two offsets, or more than 8 axes")
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    end = 0
    for name in names:
        about, (begin, last) = header[name], header[name]["data_offsets"]
        size_of = math.prod(about["shape"]) * TYPES[about["dtype"]].itemsize
        if begin != end or last - begin != size_of:
            raise ValueError(f"the offsets of {name!r:.80} do not fit its shape, or the array before it")
        end = last
    if end != size:
        raise ValueError(f"its arrays take {end} bytes, and {size} are there")
    return names


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    return data[slice(*data_offsets)].view(TYPES[dtype]).reshape(shape)


def write(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write float arrays by name, whole or not at all. metadata: what else is to stand in the header."""
    names = {dtype: name for name, dtype in TYPES.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    ordered, end = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])), 0
    for name, array in ordered:
        shape, offsets = list(array.shape), [end, end + array.nbytes]
        dtype = names[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    with files.replacing(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
