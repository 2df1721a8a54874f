"""What a data set is: samples to train on, samples held out, their classes and their units; made of your own arrays.

An array is kept as it is given. Nothing here copies or converts more of it at a time than a block.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .samples import Samples, blocks
from .stored import Stored
from .units import Units

# The ranges in which images are usually stored: fractions, signed fractions, bytes.
USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
MAX_CLASSES = 1 << 16
MAX_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples to train on and samples held out; made by `from_raw` or `datasets.load`.

    `x` is (N, …) and `held_out` (M, …) or None: array-likes (`Samples`) of float32 in the network's range, which are
    stored as they were given and converted when they are read. Points are (N, D), images (N, H, W, C) in [−1, 1].
    `labels` (N,) and `held_out_labels` (M,) are int64 in 0…classes − 1, or None; without labels `classes` is 0.
    `units` is the map to and from the data's own units. `class_names` are as many as there are classes, or none.
    `left_out`: in words, what the source has beside this; "" where it is nothing. `decoded`: what was decoded, for
    `datasets.cache.keep`.
    """

    name: str
    x: Samples
    labels: np.ndarray | None
    held_out: Samples | None
    held_out_labels: np.ndarray | None
    classes: int
    units: Units
    class_names: tuple[str, ...] = ()
    left_out: str = ""
    decoded: Mapping[str, Stored] = field(default_factory=dict, repr=False)

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of all that a run depends on: samples as they are stored, labels, what is held out, classes."""
        held_out = None if self.held_out is None else self.held_out.checksum
        digest = hashlib.sha256(f"{self.x.checksum} {held_out} {self.classes} {self.class_names}".encode())
        for labels in (self.labels, self.held_out_labels):
            digest.update(b"None" if labels is None else labels.astype("<i8").tobytes())
        return digest.hexdigest()


def from_raw(
    name: str,
    raw: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    held_out: np.ndarray | None = None,
    held_out_labels: np.ndarray | None = None,
    held_out_fraction: float = 0.1,
    limits: tuple[float, float] | None = None,
    class_names: Sequence[str] = (),
) -> Dataset:
    """A `Dataset` of your own arrays: `from_raw("mine", array, labels)`.

    name: what errors and reports call it.
    raw: points (N,) or (N, D), or images (N, H, W) or (N, H, W, C), C at most 4; N at least 2. Any real dtype, in the
        data's own units. It is neither changed nor copied, so it must stay as it is. (N,) becomes (N, 1), and
        (N, H, W) becomes (N, H, W, 1).
    labels: (N,) or (N, 1) integers, the class of each sample, counted from 0.
    held_out, held_out_labels: samples to measure with, like `raw` and `labels`, and never trained on.
    held_out_fraction: in [0, 1); without `held_out`, that fraction of `raw` is held out, balanced over the classes.
    limits: the levels of images that become −1 and 1. None: the first of 0…1, −1…1 and 0…255 that holds all values
        and of which they span more than half, else their minimum and maximum. Points are standardised instead.
    class_names: the names of the classes 0, 1, …

    Raises ValueError, with `name`, for other shapes, dtypes and ranges than these, for NaN or infinity, for a label
    without a name, and where all samples are the same.
    """
    raw = _checked_samples(name, raw)
    labels = _checked_labels(name, labels, len(raw))
    units = _units(name, raw, limits)
    rows = held_out_rows = None
    if held_out is None:
        if held_out_labels is not None:
            raise ValueError(f"{name}: expected held_out with held_out_labels, got None; give both")
        if not (0 <= held_out_fraction < 1 and round(held_out_fraction * len(raw)) < len(raw)):
            raise ValueError(
                f"{name}: expected held_out_fraction in [0, 1), with samples left to train on, got {held_out_fraction}"
            )
        rows, held_out_rows = split(len(raw), labels, held_out_fraction)
        held_out = raw
        if labels is not None:
            labels, held_out_labels = labels[rows], labels[held_out_rows]
    else:
        held_out = _checked_samples(f"{name}, held out", held_out)
        held_out_labels = _checked_labels(f"{name}, held out", held_out_labels, len(held_out))
        if held_out.shape[1:] != raw.shape[1:]:
            raise ValueError(
                f"{name}: expected held-out samples of shape {raw.shape[1:]} as the others, got {held_out.shape[1:]}"
            )
    held = Samples(held_out, units, held_out_rows)
    return Dataset(
        name=name,
        x=Samples(raw, units, rows),
        labels=labels,
        held_out=held if len(held) else None,
        held_out_labels=held_out_labels if len(held) else None,
        classes=_count_classes(name, class_names, labels, held_out_labels),
        units=units,
        class_names=tuple(class_names),
    )


def split(count: int, labels: np.ndarray | None, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """A stratified split: sorted indices to keep, and round(fraction · count) sorted indices to hold out.

    Of each class of `labels` (count,) the fraction is held out to within one sample. The split does not depend on the
    seed of a run: what one run trained on, no other holds out.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(count)
    labels = np.zeros(count, int) if labels is None else labels
    order = order[np.argsort(labels[order], kind="stable")]
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    # Spread each class evenly over (0, 1) with a random offset: the lowest positions hold their fraction of each class.
    position = (np.arange(count) - np.repeat(start - rng.random(len(size)), size)) / np.repeat(size, size)
    order = order[np.argsort(position, kind="stable")]
    held = round(fraction * count)
    return np.sort(order[held:]), np.sort(order[:held])


def _checked_samples(name: str, raw: np.ndarray) -> np.ndarray:
    raw = np.asarray(raw)
    if raw.dtype.kind not in "buif":
        raise ValueError(f"{name}: expected real numbers, got entries of type {raw.dtype}")
    if raw.ndim not in (1, 2, 3, 4) or 0 in raw.shape[1:]:
        raise ValueError(f"{name}: expected points (N, D) or images (N, H, W, C), got an array {raw.shape}")
    if raw.ndim == 4 and raw.shape[-1] > MAX_CHANNELS:
        first = raw.shape[1] <= MAX_CHANNELS
        hint = "; np.moveaxis(array, 1, -1) puts them last, as --channels-first does" if first else ""
        raise ValueError(
            f"{name}: expected images (N, H, W, C), the 1 to 4 channels last, got an array {raw.shape}{hint}"
        )
    if len(raw) < 2:
        raise ValueError(f"{name}: expected at least 2 samples, got {len(raw)}")
    raw = raw[..., None] if raw.ndim in (1, 3) else raw
    if raw.dtype.kind == "f":
        for block in blocks(raw.shape):
            _check_finite(name, raw[block], block.start)
    return raw.view(np.uint8) if raw.dtype.kind == "b" else raw


def _check_finite(name: str, samples: np.ndarray, first: int) -> None:
    """Raises ValueError unless float32 can hold all of the samples, which are counted from `first`."""
    # NaN fails the comparison too. What float32 cannot hold, the network cannot take.
    usable = np.abs(samples) <= np.finfo(np.float32).max
    if not usable.all():
        index = tuple(np.argwhere(~usable)[0].tolist())
        raise ValueError(
            f"{name}: expected finite numbers, got {samples[index]} in sample {first + index[0]} (counted from 0)"
        )


def _checked_labels(name: str, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.shape == (count, 1) else labels
    if labels.shape != (count,) or labels.dtype.kind not in "ui":
        raise ValueError(
            f"{name}: expected {count} integer labels, one for each sample, "
            f"got an array {labels.shape} of {labels.dtype}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise ValueError(
            f"{name}: expected labels that count the classes from 0, below {MAX_CLASSES}, got {low}…{high}; "
            "np.unique(labels, return_inverse=True)[1] numbers them so"
        )
    return labels.astype(np.int64)


def _count_classes(name: str, names: Sequence[str], *labels: np.ndarray | None) -> int:
    count = max((1 + int(given.max()) for given in labels if given is not None and len(given)), default=0)
    if names and count > len(names):
        raise ValueError(
            f"{name}: expected labels below {len(names)}, the number of class names, got {count - 1}"
        )
    return len(names) if count and names else count


def _units(name: str, raw: np.ndarray, limits: tuple[float, float] | None) -> Units:
    low, high = raw.min(axis=0), raw.max(axis=0)
    varies = high.astype(np.float64) - low.astype(np.float64) > np.finfo(np.float32).tiny
    if not varies.any():
        raise ValueError(f"{name}: expected data that varies, got {len(raw)} samples that are all the same")
    if raw.ndim == 2:
        parts = [raw[block] for block in blocks(raw.shape)]
        mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / len(raw)
        variance = sum(np.square(part - mean).sum(axis=0) for part in parts) / len(raw)
        # A coordinate that does not vary is only centred.
        std = np.sqrt(variance)
        _check_resolution(name, low, high, np.where(varies, std, np.inf))
        return Units(tuple(mean.tolist()), tuple(np.where(varies, std, 1.0).tolist()))
    lowest, highest = float(low.min()), float(high.max())
    bottom, top = _usual_range(lowest, highest) if limits is None else limits
    slack = 1e-5 * (top - bottom)  # 0.1 as float32 is more than 0.1
    if not (bottom < top and bottom - slack <= lowest and highest <= top + slack):
        raise ValueError(
            f"{name}: expected limits (low, high) that hold all values, here {lowest:g}…{highest:g}, got {limits}"
        )
    _check_resolution(name, low.reshape(-1), high.reshape(-1), np.array((top - bottom) / 2))
    return Units((top + bottom) / 2, (top - bottom) / 2)


def _check_resolution(name: str, low: np.ndarray, high: np.ndarray, scale: np.ndarray) -> None:
    """Raises ValueError where float32, in which samples are returned, has fewer than 32 numbers in `scale`."""
    size = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    coarse = 32 * np.spacing(size.astype(np.float32)) > scale
    if coarse.any():
        first = int(np.argmax(coarse))
        raise ValueError(
            f"{name}: the values around {size[first]:g} vary by {np.broadcast_to(scale, size.shape)[first]:.3g}, which "
            "float32 cannot resolve there; subtract an offset from them, such as their mean"
        )


def _usual_range(low: float, high: float) -> tuple[float, float]:
    """The first usual range that holds low…high and of which they span more than half, else low and high."""
    for bottom, top in USUAL_RANGES:
        if bottom <= low and high <= top and high - low > (top - bottom) / 2:
            return bottom, top
    return low, high
