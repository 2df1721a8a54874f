"""PyTorch's checkpoints, read without PyTorch: .bin, .pt, .pth, .ckpt.

Such a file is a pickle, in which a tensor is the call of a function that takes a storage, an offset, a shape and
strides. The storages lie beside it: since PyTorch 1.6 as members of a zip file, before that one after the other behind
the pickle. Either way they are mapped into memory. The pickle may hold tensors and plain data, and nothing in it is
executed (`minidiff.unpickling`).
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidiff import unpickling
from minidiff.weights.bfloat16 import BFLOAT16

# The first three of the pickles that a file of the older form begins with; the third is about the machine.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    """numbers: (n,), one after the other in memory; None before they are found."""

    numbers: np.ndarray | None


Storages = Callable[[str, np.dtype, int], _Storage]  # by key, type and count


def read(path: str | Path) -> Any:
    """What a checkpoint holds: dictionaries, lists and plain data, its tensors as arrays that are views into the file.

    Those of bfloat16 are for `bfloat16.widened`. Raises FileNotFoundError where there is no file, and ValueError, in
    one line, for what is not such a file, is damaged, or holds anything else than tensors and plain data.
    """
    path = Path(path)
    try:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read_zip(path, mapped) if zipfile.is_zipfile(path) else _read_older(mapped)
    except (*unpickling.DAMAGE, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint, but {' '.join(str(error).split())[:160]}"
        ) from error


def _read_zip(path: Path, mapped: mmap.mmap) -> Any:
    content = np.frombuffer(mapped, np.uint8)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("the zip file has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")

    @cache
    def member(name: str) -> np.ndarray:
        found = members[folder + name]
        if found.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name!r:.80} in it is compressed")
        header = content[found.header_offset : found.header_offset + 30].tobytes()
        begin = found.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        stored = content[begin : begin + found.file_size]
        if zlib.crc32(stored.data) != found.CRC:
            raise ValueError(f"{name!r:.80} in it is damaged")
        return stored

    def storage(key: str, dtype: np.dtype, count: int) -> _Storage:
        return _numbers(member(f"data/{key}"), dtype, count)

    if f"{folder}byteorder" in members and member("byteorder").tobytes() != b"little":
        raise ValueError("its numbers are not little-endian")
    return _unpickled(io.BytesIO(member("data.pkl").tobytes()), storage)


def _read_older(mapped: mmap.mmap) -> Any:
    content, pickled = np.frombuffer(mapped, np.uint8), partial(unpickling.load, mapped, {})
    if pickled() != MAGIC or pickled() != PROTOCOL or not isinstance(pickled(), dict):
        raise ValueError("it does not begin as one")
    begin, described = mapped.tell(), dict[str, tuple[np.dtype, int]]()

    # The storages lie behind the pickle: it is read once to find its end, and again when they are known.
    def noted(key: str, dtype: np.dtype, count: int) -> _Storage:
        described[key] = dtype, count
        return _Storage(None)

    _unpickled(mapped, noted)
    keys, stored = pickled(), dict[str, _Storage]()
    if described.keys() != set(keys):
        raise ValueError("it has other storages than its tensors")
    position = mapped.tell()
    for key in keys:
        dtype, count = described[key]
        if int.from_bytes(content[position : position + 8].tobytes(), "little") != count:
            raise ValueError(f"the storage {key!r:.40} has not the length that its tensors have")
        end = position + 8 + count * dtype.itemsize
        stored[key] = _numbers(content[position + 8 : end], dtype, count)
        position = end
    mapped.seek(begin)
    return _unpickled(mapped, lambda key, dtype, count: stored[key])


def _numbers(content: np.ndarray, dtype: np.dtype, count: int) -> _Storage:
    if content.size != count * dtype.itemsize:
        raise ValueError(f"a storage of {count} numbers has {content.size} bytes")
    return _Storage(content.view(dtype))


def _unpickled(stream: unpickling.Stream, storages: Storages) -> Any:
    def persistent(about: Any) -> _Storage:
        kind, dtype_of, key, _, count, *view = about
        dtype = dtype_of()
        right = isinstance(dtype, np.dtype) and isinstance(key, str) and type(count) is int
        if kind != "storage" or not right or view not in ([], [None]):
            raise ValueError("it refers to something that is no storage")
        return storages(key, dtype, count)

    return unpickling.load(stream, ALLOWED, persistent)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> np.ndarray | None:
    """torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor is not made as tensors are")
    if len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("a tensor has not as many strides as axes, at most 8")
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's offset, shape or strides are no whole numbers")
    if (numbers := storage.numbers) is None:
        return None
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.empty(shape, numbers.dtype)
    if last >= numbers.size:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {numbers.size} numbers")
    steps = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


class _Table(dict[Any, Any]):
    """collections.OrderedDict, which begins empty, without the attributes that PyTorch gives it."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


ALLOWED: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Table,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *others: data,
    **{f"torch.{name}": lambda dtype=dtype: dtype for name, dtype in STORAGES.items()},
}
