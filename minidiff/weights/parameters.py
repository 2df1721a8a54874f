"""The parameters of a U-Net from and to arrays with the names and the layout of another library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from minidiff import memory
from minidiff.nn import UNet
from minidiff.nn.layers import frequencies
from minidiff.weights.bfloat16 import widened
from minidiff.weights.names import DIFFUSERS, NAMINGS, Naming, name_in, to_ours, to_theirs

BYTES = 12  # of a parameter: itself, as float32, and what its initial value was drawn in
TIME = "time1.w"  # (width, 4 width), its rows in the order of `sinusoidal`


def network(
    settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], flip_sin_to_cos: bool = False
) -> UNet:
    """The U-Net with these settings, and with the arrays, as they are named by one of `NAMINGS`, as its parameters.

    flip_sin_to_cos: the cosines of the time come before the sines. Raises ValueError, in one line, for settings that do
    not fit, and for arrays that are missing, left over, of another shape, no floats or not finite. Memory is allocated
    for a network of the size of the arrays alone.
    """
    naming, levels, depth = _naming_of(arrays), len(settings["multipliers"]), settings["depth"]

    def found(path: str, shape: tuple[int, ...]) -> np.ndarray:
        name = name_in(naming, path, levels, depth)
        if name not in arrays:
            raise ValueError(f"it has no {name}, which this network needs")
        array = to_ours(arrays[name], path, shape)
        if array.shape != shape:
            raise ValueError(
                f"{name}: expected an array for {path} {shape}, got {arrays[name].shape}, which is {array.shape}"
            )
        return array

    for path, shape in _some_shapes(settings):
        found(path, shape)
    memory.require(sum(array.size for array in arrays.values()), BYTES, "parameters")
    net = UNet(np.random.default_rng(0), **settings)
    if extra := sorted(arrays.keys() - _names(net, naming).values()):
        raise ValueError(f"it has {extra[0]!r:.80}, which this network does not have")
    for path, parameter in net.named_parameters().items():
        array = widened(found(path, parameter.shape))
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(
                f"{name_in(naming, path, levels, depth)}: expected finite floats, got {array.dtype}"
            )
        parameter.data[...] = _halves_swapped(array) if path == TIME and flip_sin_to_cos else array
    return net


def _some_shapes(settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The shapes of parameters from which the size of all follows."""
    width, depth = settings["width"], settings["depth"]
    yield "first.w", (3, 3, settings["channels"], width)
    for level, m in enumerate(settings["multipliers"]):
        outputs = round(width * m)
        for block in (0, depth - 1):
            yield f"down.{level * (depth + 1) + block}.block.conv2.w", (3, 3, outputs, outputs)


def _naming_of(arrays: Mapping[str, np.ndarray]) -> Naming:
    """That whose names of the first layer of the time, and of the queries, are there."""

    def found(naming: Naming) -> int:
        query = f".{naming.attention['q']}.weight"
        return (f"{naming.top['time1']}.weight" in arrays) + any(name.endswith(query) for name in arrays)

    return max(NAMINGS, key=found)


def arrays_of(net: UNet, naming: Naming = DIFFUSERS) -> dict[str, np.ndarray]:
    """The parameters of a network by their names in another library, where times run 0…T−1."""
    found = {}
    for path, name in _names(net, naming).items():
        data = net.named_parameters()[path].data
        found[name] = to_theirs(_later(net, data) if path == TIME else data, path)
    return found


def _names(net: UNet, naming: Naming) -> dict[str, str]:
    depth = cast(Any, net.settings["depth"])
    return {path: name_in(naming, path, net.levels, depth) for path in net.named_parameters()}


def _halves_swapped(rows: np.ndarray) -> np.ndarray:
    return np.roll(rows, len(rows) // 2, axis=0)


def _later(net: UNet, w: np.ndarray) -> np.ndarray:
    """The layer after the sines and cosines of t for one that is given those of t − 1 − time_offset.

    sin(s + δ) f = sin sf cos δf + cos sf sin δf, and so for the cosine: a rotation of each pair of rows by δf.
    """
    shift = 1 + net.time_offset
    if shift == 0:
        return w
    half = len(w) // 2
    angle = shift * frequencies(len(w), net.freq_shift)[:, None]
    sine, cosine = np.sin(angle), np.cos(angle)
    of_sines, of_cosines = w[:half].astype(np.float64), w[half:].astype(np.float64)
    rotated = [of_sines * cosine - of_cosines * sine, of_sines * sine + of_cosines * cosine]
    return np.concatenate(rotated).astype(w.dtype)
