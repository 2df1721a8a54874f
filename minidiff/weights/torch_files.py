"""PyTorch's checkpoints, read without PyTorch: .bin, .pt, .pth, .ckpt.

Such a file is a pickle, in which a tensor is the call of a function that takes a storage, an offset, a shape and
strides. The storages lie beside it: since PyTorch 1.6 as members of a zip file, before that one after the other behind
the pickle. Either way they are mapped into memory. The pickle may hold tensors and plain data, and nothing in it is
executed (`minidiff.unpickling`).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import unpickling
from minidiff.weights.bfloat16 import BFLOAT16, widened

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
Storage = Callable[[str, np.dtype, int], np.ndarray]  # key, type and count of its numbers → (count,)


def read(path: str | Path) -> Any:
    """What a checkpoint holds: dictionaries, lists and plain data, its tensors as arrays that are views into the file.

    Of bfloat16 they are copies as float32. Raises FileNotFoundError where there is no file, and ValueError, in one
    line, for what is not such a file, is damaged, or holds anything else than tensors and plain data.
    """
    path = Path(path)
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    try:
        return _read_zip(path, content) if zipfile.is_zipfile(path) else _read_older(path, content)
    except (*unpickling.DAMAGE, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint, but {' '.join(str(error).split())[:160]}"
        ) from error


def _read_zip(path: Path, content: np.ndarray) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("the zip file has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")

    def member(name: str) -> np.ndarray:
        found = members[folder + name]
        if found.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} in it is compressed")
        header = content[found.header_offset : found.header_offset + 30].tobytes()
        begin = found.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        stored = content[begin : begin + found.file_size]
        if zlib.crc32(stored.data) != found.CRC:
            raise ValueError(f"{name} in it is damaged")
        return stored

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        return _numbers(member(f"data/{key}"), dtype, count)

    if f"{folder}byteorder" in members and member("byteorder").tobytes() != b"little":
        raise ValueError("its numbers are not little-endian")
    return _unpickled(io.BytesIO(member("data.pkl").tobytes()), storage)


def _read_older(path: Path, content: np.ndarray) -> Any:
    with path.open("rb") as stream:
        pickled = partial(unpickling.load, stream, {})
        if pickled() != MAGIC or pickled() != PROTOCOL or not isinstance(pickled(), dict):
            raise ValueError("it does not begin as one")
        begin, types = stream.tell(), dict[str, np.dtype]()

        # The storages lie behind the pickle: it is read once to find its end, and again when they are known.
        def noted(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            types[key] = dtype
            return np.broadcast_to(np.zeros((), dtype), count)

        _unpickled(stream, noted)
        stored, position = {}, 0
        for key in pickled():
            position = position or stream.tell()
            count = int.from_bytes(content[position : position + 8].tobytes(), "little")
            end = position + 8 + count * types[key].itemsize
            stored[key] = _numbers(content[position + 8 : end], types[key], count)
            position = end
        stream.seek(begin)
        return _unpickled(stream, lambda key, dtype, count: stored[key][:count])


def _numbers(content: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
    if content.size != count * dtype.itemsize:
        raise ValueError(f"a storage of {count} numbers has {content.size} bytes")
    return content.view(dtype)


def _unpickled(stream: Any, storage: Storage) -> Any:
    def persistent(about: Any) -> np.ndarray:
        kind, dtype, key, _, count = about[:5]
        if kind != "storage" or not isinstance(key, str) or not isinstance(count, int):
            raise ValueError(f"it refers to {about!r:.80}, which is no storage")
        return storage(key, dtype(), count)

    return unpickling.load(stream, ALLOWED, persistent)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, np.ndarray) or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("a tensor is not made as tensors are")
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's offset, shape or strides are no whole numbers")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.size:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {storage.size} numbers")
    steps = [step * storage.itemsize for step in strides]
    begin = 0 if 0 in shape else offset
    return widened(np.lib.stride_tricks.as_strided(storage[begin:], shape, steps, writeable=False))


class _Table(dict[Any, Any]):
    """collections.OrderedDict, without the attributes that PyTorch gives it."""

    def __setstate__(self, state: Any) -> None:
        pass


ALLOWED: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Table,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *others: data,
    **{f"torch.{name}": lambda dtype=dtype: dtype for name, dtype in STORAGES.items()},
}
