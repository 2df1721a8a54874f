"""One file for facts and arrays, in named sections: written whole or not at all, read without pickle, never damaged.

A section is a pair: facts, which fit into JSON, and arrays by name. Sections are read by name, so that a later version
can add some; a version that does not know a section refuses the file, and says which version wrote it.

The file is an ordinary .npz. Its arrays are called 'section/name'; the facts are JSON inside of it; and the archive's
comment, the last thing in the file, is the SHA-256 of all that stands before: a flipped bit anywhere, a cut or an
appended byte is noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import __version__, files

Section = tuple[dict[str, Any], dict[str, np.ndarray]]
Sections = dict[str, Section]

VERSION = 2
_FACTS = "facts.json"
_DIGEST = hashlib.sha256().digest_size * 2  # characters of a hexadecimal digest


def write(path: Path, sections: Mapping[str, Section]) -> None:
    """Put the sections into the file `path`. Until they are safely on disk, the old content stays."""
    facts = {name: section[0] for name, section in sections.items()}
    arrays = {
        f"{name}/{key}": array for name, section in sections.items() for key, array in section[1].items()
    }
    text = json.dumps({"version": VERSION, "written_by": f"minidiff {__version__}", "sections": facts})
    arrays[_FACTS] = np.frombuffer(text.encode(), np.uint8)
    content = files.npz(arrays, comment=b"0" * _DIGEST)[:-_DIGEST]
    files.replace(path, content + hashlib.sha256(content).hexdigest().encode())


def read(path: Path, known: set[str]) -> tuple[Sections, str]:
    """The sections of a file that `write`, or version 0.1 of minidiff, made; and which version that was.

    known: the sections that the caller can read. Raises ValueError for a damaged or foreign file, a newer format, and
    sections that are not known.
    """
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content[:-_DIGEST]).hexdigest().encode()
    if digest != content[-_DIGEST:]:
        raise ValueError(f"{path} is damaged or not a checkpoint: its content does not match its checksum")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # whatever a forged archive makes of NumPy's reader
        raise ValueError(f"{path} is not a checkpoint: {str(error)[:80]}") from error
    try:
        sections, writer = _sections(path, arrays)
    except KeyError as error:
        raise ValueError(f"{path} is not a checkpoint: {str(error)[:80]} is missing in it") from error
    except (AttributeError, RecursionError, TypeError, UnicodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a checkpoint: its facts are damaged ({str(error)[:80]})") from error
    if unknown := sections.keys() - known:
        raise ValueError(
            f"{path} was written by {writer} and has parts that this version does not know: "
            f"{', '.join(sorted(unknown))}"
        )
    return sections, writer


def _sections(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Sections, str]:
    facts = json.loads(arrays.pop(_FACTS).tobytes())
    if facts["version"] == 1:
        facts, arrays = _upgraded(facts, arrays)
    writer = facts.get("written_by", "another version of minidiff")
    if facts["version"] != VERSION:
        raise ValueError(
            f"{path} was written by {writer} in format {facts['version']}, this version reads up to {VERSION}"
        )
    sections: Sections = {name: (about, {}) for name, about in facts["sections"].items()}
    for name, array in arrays.items():
        section, _, key = name.partition("/")
        sections.setdefault(section, ({}, {}))[1][key] = array
    return sections, writer


def _upgraded(
    facts: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What version 1 of the format, that of minidiff 0.1, looks like in version 2."""
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
    if "losses" in arrays:
        sections["loss-aware"] = {}
    moved = {}
    for name, array in arrays.items():
        kind, slash, key = name.partition("/")
        moved[f"{renamed.get(kind, kind)}{slash}{key}"] = array
    return {"version": VERSION, "written_by": "minidiff 0.1", "sections": sections}, moved
