"""The parameters in a file of weights, whatever its format, and whatever else is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.weights import safetensors, torch_files

TORCH = (".bin", ".pt", ".pth", ".ckpt")
SUFFIXES = (".safetensors", *TORCH)
FIRST = "conv_in.weight"  # which every naming of a U-Net has
DEPTH = 4  # of containers in each other


def read(path: Path, first: str = FIRST, kind: str = "a U-Net") -> dict[str, np.ndarray]:
    """The arrays of a network by name, as views into the file.

    first: the name of an array by which the network is recognised. kind: what an error calls it.

    A checkpoint may hold several networks, in dictionaries and lists, their names prefixed ("module."): of these the
    EMA weights are taken, which have that name or, in a list, are the last. Raises as the readers of the formats, and
    ValueError where there is no network.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    content = safetensors.read(path) if path.suffix == ".safetensors" else torch_files.read(path)
    found = list(_networks(content, first, "", DEPTH, set()))
    if not found:
        raise ValueError(f"{path}: expected the weights of {kind}, with a {first}; found {_inside(content)}")
    averaged = [arrays for name, arrays in found if "ema" in name.lower()]
    return averaged[0] if averaged else found[-1 if isinstance(content, list) else 0][1]


def _networks(
    content: Any, first: str, name: str, depth: int, seen: set[int]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Every network, with the names of what it is in. seen: the containers that were visited, by their id."""
    if not depth or not isinstance(content, (dict, list)) or id(content) in seen:
        return
    seen.add(id(content))
    items = list(content.items() if isinstance(content, dict) else enumerate(content))
    arrays = {str(key): item for key, item in items if isinstance(item, np.ndarray)}
    for found in sorted(key for key in arrays if key == first or key.endswith("." + first)):
        prefix = found.removesuffix(first)
        own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        yield f"{name}.{prefix}", own
    for key, item in items:
        yield from _networks(
            item, first, f"{name}.{key:.40}" if isinstance(key, str) else name, depth - 1, seen
        )


def _inside(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"{', '.join(f'{key!r:.40}' for key in list(content)[:3])}, …" if content else "nothing"
