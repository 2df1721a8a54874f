"""One file for arrays and facts: written whole or not at all, read without pickle, and never when damaged.

It is an ordinary .npz. The facts are JSON inside of it, and the archive's comment, the last thing in the file, is the
SHA-256 of all that stands before: a flipped bit anywhere, a cut or an appended byte is noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from minidiff import files

VERSION = 1
_FACTS = "facts.json"
_DIGEST = hashlib.sha256().digest_size * 2  # characters of a hexadecimal digest


def write(path: Path, arrays: dict[str, np.ndarray], facts: dict[str, object]) -> None:
    """Put arrays and JSON-able facts into the file `path`. Until they are safe on disk, what was there stays."""
    buffer = io.BytesIO()
    text = json.dumps({"version": VERSION, **facts})
    np.savez(buffer, **arrays, **{_FACTS: np.frombuffer(text.encode(), np.uint8)})
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * _DIGEST
    content = buffer.getvalue()[:-_DIGEST]
    files.replace(path, content + hashlib.sha256(content).hexdigest().encode())


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The arrays and facts of a file that `write` made. Raises ValueError for any other or a damaged one."""
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content[:-_DIGEST]).hexdigest().encode()
    if digest != content[-_DIGEST:]:
        raise ValueError(f"{path} is damaged or no checkpoint: its content does not match its checksum")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    facts = json.loads(arrays.pop(_FACTS).tobytes())
    if facts["version"] != VERSION:
        raise ValueError(f"{path} has format version {facts['version']}, this minidiff reads {VERSION}")
    return arrays, facts
