"""Compiled kernels on disk, in Numba's own cache, with the difference that nothing that is wrong with it is fatal.

Numba raises whatever comes of a file that is cut short or of a disk that is full, at every call from then on, and it
runs the machine code of a file in which a bit has flipped. Here a file has a digest of its contents. What cannot be
read, or is not what was written, is compiled again and written anew; what cannot be written is left out.
"""

import hashlib
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from numba.core.caching import FunctionCache, IndexDataCacheFile

_noted: set[str] = set()


class KernelCache(FunctionCache):
    """The cache of a kernel; raises RuntimeError where there is no directory that can be written to."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, _stamp())

    def load_overload(self, sig, target_context):
        """The compiled kernel for a signature; None if there is none, or its files are damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            note(self._cache_path, error)
        with suppress(OSError):  # a full disk, or a directory in the place of the file
            self.flush()
        return None

    def save_overload(self, sig, data) -> None:
        """Write a compiled kernel, if that can be done."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            note(self._cache_path, error)


class _CheckedFile(IndexDataCacheFile):
    """The files of a kernel's cache: an index by signature, and for each the data, here with what they belong to."""

    def save(self, key, data) -> None:
        """Write a compiled kernel, with what it belongs to."""
        super().save(key, (self._owner(key), data))

    def load(self, key):
        """The compiled kernel of a key, or None; ValueError where it belongs to another."""
        found = super().load(key)
        if found is None:
            return None
        owner, data = found
        if owner != self._owner(key):
            raise ValueError("a file belongs to another kernel, or to another version of this one")
        return data

    def _owner(self, key) -> tuple:
        """What the data belong to. Numba's key alone is the same for kernels that differ in a constant only."""
        return self._index_name, self._source_stamp, key

    def _save_data(self, name: str, data) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str):
        content = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("a file is damaged")
        return pickle.loads(content[32:])


def note(folder: str | Path, reason: object) -> None:
    """Warn, once for a folder, that kernels are compiled although they should have been there."""
    if str(folder) not in _noted:
        _noted.add(str(folder))
        warnings.warn(
            f"kernels must be compiled again, since their cache in {folder} could not be used ({reason}); "
            "if this recurs, empty the folder, make room on its disk, or set NUMBA_CACHE_DIR to another one",
            RuntimeWarning,
            stacklevel=2,
        )


@cache
def _stamp() -> str:
    """A hash of all source files of this package: a helper may be in another file than the kernel that contains it."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()
