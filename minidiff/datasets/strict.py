"""Reading untrusted files: exact lengths, and one clear ValueError for any damage."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

# What the decoders of gz and zip raise on damaged input, apart from ValueErrors of ours. OSError: a bad gz, or a seek
# to where a damaged zip points; RuntimeError: a zip that claims to be encrypted, or of a kind that is not implemented;
# UnicodeError: names in a zip; ArithmeticError, LookupError, struct.error: its extra fields.
DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    UnicodeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

BLOCK = 1 << 20


class Readable(Protocol):
    """A binary stream, of a file or from within an archive."""

    def read(self, size: int = ..., /) -> bytes: ...


@contextmanager
def damage_as_value_error(path: Path) -> Iterator[None]:
    """A context in which a decoder's error about `path` becomes a ValueError that names the file."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(
            f"{path}: the file cannot be read to its end ({error}); fetch or write it again"
        ) from error


def read_exactly(stream: Readable, count: int, path: Path) -> bytearray:
    """The rest of `stream`, which must be exactly `count` bytes, else ValueError.

    It reads in blocks: a header may declare terabytes, but memory is only allocated for bytes that are there.
    """
    body = bytearray()
    while len(body) <= count and (block := stream.read(min(BLOCK, count + 1 - len(body)))):
        body += block
    if len(body) != count:
        found = "more follow" if len(body) > count else f"only {len(body)} follow"
        raise ValueError(
            f"{path}: the header declares {count} bytes of data, but {found}; the file is damaged"
        )
    return body
