"""One file for facts and arrays, in named sections: written whole or not at all, read without pickle, never damaged.

A section is a pair: facts, which fit into JSON, and arrays by name. Sections are read by name, so that a later version
can add some; a version that does not know a section refuses the file, and says which version wrote it.

The file is an ordinary .npz. Its arrays are called 'section/name'; the facts are JSON inside of it; and the archive's
comment, the last thing in the file, is the SHA-256 of all that stands before: a flipped bit anywhere, a cut or an
appended byte is noticed. Each array has a CRC-32 of its own, so that some can be read, and checked, without the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from minidiff import __version__, files

Section = tuple[dict[str, Any], Mapping[str, np.ndarray]]
Sections = dict[str, Section]

VERSION = 2
_FACTS = "facts.json"
_DIGEST = hashlib.sha256().digest_size * 2  # characters of a hexadecimal digest
_BLOCK = 1 << 20  # bytes that are read at a time


def write(path: Path, sections: Mapping[str, Section]) -> None:
    """Put the sections into the file `path`. Until they are safely on disk, the old content stays."""
    facts = {name: section[0] for name, section in sections.items()}
    arrays = {
        f"{name}/{key}": array for name, section in sections.items() for key, array in section[1].items()
    }
    text = json.dumps({"version": VERSION, "written_by": f"minidiff {__version__}", "sections": facts})
    arrays[_FACTS] = np.frombuffer(text.encode(), np.uint8)
    with files.replacing(path) as file, ThreadPoolExecutor(1) as pool:
        files.write_npz(file, arrays, comment=b"0" * _DIGEST)
        file.flush()
        synced = pool.submit(os.fsync, file.fileno())  # the disk works while the digest is computed
        file.write(_digest(file))
        synced.result()


def read(path: Path, known: set[str]) -> tuple[Sections, str]:
    """All that `opened` has, in memory; and which version wrote it. Raises as `opened`, for any flipped bit."""
    with opened(path, known, verify=True) as (sections, writer):
        return {name: (facts, dict(arrays)) for name, (facts, arrays) in sections.items()}, writer


@contextmanager
def opened(path: Path, known: set[str], verify: bool = False) -> Iterator[tuple[Sections, str]]:
    """The sections of a file that `write`, or version 0.1 of minidiff, made; and which version that was.

    An array is read, and checked, when it is looked up in its section. known: the sections that the caller can read.
    verify: check the whole file first. Raises ValueError for a damaged or foreign file, a newer format, and sections
    that are not known.
    """
    with Path(path).open("rb") as file:
        if verify and _digest(file) != file.read():
            raise ValueError(
                f"{path} is damaged or not a checkpoint: its content does not match its checksum"
            )
        try:
            archive = zipfile.ZipFile(file)
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        except Exception as error:  # whatever a forged archive makes of the reader
            raise ValueError(f"{path} is damaged or not a checkpoint: {str(error)[:80]}") from error
        try:
            sections, writer = _sections(path, _Arrays(path, archive, members))
        except KeyError as error:
            raise ValueError(f"{path} is not a checkpoint: {str(error)[:80]} is missing in it") from error
        except (AttributeError, RecursionError, TypeError, UnicodeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path} is not a checkpoint: its facts are damaged ({str(error)[:80]})"
            ) from error
        if unknown := sections.keys() - known:
            raise ValueError(
                f"{path} was written by {writer} and has parts that this version does not know: "
                f"{', '.join(sorted(unknown))}"
            )
        yield sections, writer


def _digest(file: IO[bytes]) -> bytes:
    """The digest of an open file without its own, before which the file then stands."""
    left, digest = file.seek(0, os.SEEK_END) - _DIGEST, hashlib.sha256()
    file.seek(0)
    while block := file.read(max(0, min(left, _BLOCK))):
        left -= len(block)
        digest.update(block)
    return digest.hexdigest().encode()


class _Arrays(Mapping[str, np.ndarray]):
    """Arrays in an archive, each read when it is looked up. members: the names of their files in it, by their own."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, members: dict[str, str]) -> None:
        self.path, self.archive, self.members = path, archive, members

    def __getitem__(self, name: str) -> np.ndarray:
        member = self.members[name]
        try:
            with self.archive.open(member) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):  # the CRC is checked at the end
                    raise ValueError("more bytes than its shape says")
        except Exception as error:  # whatever a forged archive makes of the reader
            raise ValueError(
                f"{self.path} is damaged or not a checkpoint: {member:.60}: {str(error)[:80]}"
            ) from error
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def _sections(path: Path, arrays: _Arrays) -> tuple[Sections, str]:
    facts, members = json.loads(arrays[_FACTS].tobytes()), dict(arrays.members)
    del members[_FACTS]
    if facts["version"] == 1:
        facts, members = _upgraded(facts, members)
    writer = facts.get("written_by", "another version of minidiff")
    if facts["version"] != VERSION:
        raise ValueError(
            f"{path} was written by {writer} in format {facts['version']}, this version reads up to {VERSION}"
        )
    by_section: dict[str, dict[str, str]] = {name: {} for name in facts["sections"]}
    for name, member in members.items():
        section, _, key = name.partition("/")
        by_section.setdefault(section, {})[key] = member
    return {
        name: (facts["sections"].get(name, {}), _Arrays(path, arrays.archive, of_section))
        for name, of_section in by_section.items()
    }, writer


def _upgraded(facts: dict[str, Any], members: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What version 1 of the format, that of minidiff 0.1, looks like in version 2. members: by the names of arrays."""
    old, trainer = dict(facts["settings"]), facts["trainer"]
    net, schedule = dict(old.pop("net")), dict(old.pop("schedule"))
    if "answers" in net:
        net["learned_variance"] = net.pop("answers") == 2
    schedule["schedule"] = schedule.pop("name")
    settings = {"data": old.pop("data"), "net": net, "schedule": schedule, "seed": old.pop("seed")}
    settings["training"] = {"ema_decay": old.pop("decay"), **old}
    sections: dict[str, dict[str, Any]] = {
        "settings": settings,
        "data": {"units": facts["units"], "shape": facts["shape"]},
        "parameters": {},
        "ema": {},
        "adam": {"step": trainer["step"]},
        "batches": {"index": trainer["place"], "checksum": trainer["data"]},
        "random": {"generator": trainer["random"]},
    }
    renamed = {"average": "ema", "first": "adam/first", "second": "adam/second"}
    renamed |= {"order": "batches/order", "losses": "loss-aware/history"}
    if "losses" in members:
        sections["loss-aware"] = {}
    moved = {}
    for name, member in members.items():
        kind, slash, key = name.partition("/")
        moved[f"{renamed.get(kind, kind)}{slash}{key}"] = member
    return {"version": VERSION, "written_by": "minidiff 0.1", "sections": sections}, moved
