"""What a data set is: samples in the network's range, some held out, and the map to and from its own units.

Images are mapped linearly from their lowest and highest level to [−1, 1] (EQUATIONS.md V11: {0…255} and back without
loss), points coordinate by coordinate to mean 0 and standard deviation 1.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# The ranges in which images are usually stored: fractions, signed fractions, bytes.
USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
MAX_CLASSES = 1 << 16
MAX_CHANNELS = 4


@dataclass(frozen=True)
class Units:
    """The affine map `units = offset + scale · x` between the network's range (x) and the data's own units.

    offset, scale (> 0): numbers, or tuples with one number for each entry of the last axis; JSON keeps them exactly.
    Raises ValueError when they are not finite, when a scale is not positive, or when their shapes differ.
    """

    offset: float | tuple[float, ...]
    scale: float | tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("offset", "scale"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.ndim > 1 or not np.isfinite(value).all() or (name == "scale" and not (value > 0).all()):
                kind = "finite" if name == "offset" else "finite and positive"
                raise ValueError(
                    f"{name} should be a {kind} number, or one per coordinate; got {value.tolist()}"
                )
            object.__setattr__(self, name, tuple(value.tolist()) if value.ndim else float(value))
        if np.shape(self.offset) != np.shape(self.scale):
            raise ValueError(
                f"offset and scale should match; got shapes {np.shape(self.offset)}, {np.shape(self.scale)}"
            )

    def to_units(self, x: np.ndarray) -> np.ndarray:
        """`x` (…) in the network's range, as float32 in the data's own units.

        A float32 in [−1, 1] carries about 24 bits. The values are rounded to 21, which restores integer levels exactly.
        """
        x = self._checked(x)
        grid = np.exp2(np.ceil(np.log2(self.scale)) - 21)
        values: np.ndarray = np.round((x * np.asarray(self.scale) + self.offset) / grid) * grid
        return values.astype(np.float32)

    def from_units(self, raw: np.ndarray) -> np.ndarray:
        """`raw` (…) in the data's own units, as float32 in the network's range."""
        raw = self._checked(raw)
        # Two bytes are exact in float32; float64 would take eight times the memory of a large set of images.
        work = np.float32 if raw.dtype.itemsize <= 2 else np.float64
        x: np.ndarray = np.subtract(raw, self.offset, dtype=work)
        x /= np.asarray(self.scale, work)
        return x.astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Units":
        """The `Units` that `to_dict` wrote; ValueError when `fields` is anything else."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"expected units as {{'offset': …, 'scale': …}}, got {fields!r}") from error

    def _checked(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values)
        if isinstance(self.scale, tuple) and values.shape[-1:] != (len(self.scale),):
            raise ValueError(f"expected an array (…, {len(self.scale)}), got the shape {values.shape}")
        return values


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples to train on and samples held out; made by `from_raw` or `datasets.load`.

    `x` is (N, …) and `held_out` (M, …) or None, both float32 in the network's range: points (N, D), images
    (N, H, W, C) in [−1, 1]. `labels` (N,) and `held_out_labels` (M,) are int64 in 0…classes − 1, or None; without
    labels `classes` is 0. `units` is the map to and from the data's own units.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None
    held_out: np.ndarray | None
    held_out_labels: np.ndarray | None
    classes: int
    units: Units


def from_raw(
    name: str,
    raw: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    held_out: np.ndarray | None = None,
    held_out_labels: np.ndarray | None = None,
    held_out_fraction: float = 0.1,
    limits: tuple[float, float] | None = None,
) -> Dataset:
    """A `Dataset` of your own arrays: `from_raw("mine", array, labels)`.

    name: what errors and reports call it.
    raw: points (N,) or (N, D), or images (N, H, W) or (N, H, W, C), C at most 4; N at least 2. Any real dtype, in the
        data's own units; it is not changed. (N,) becomes (N, 1), and (N, H, W) becomes (N, H, W, 1).
    labels: (N,) integers, the class of each sample, counted from 0.
    held_out, held_out_labels: samples to measure with, like `raw` and `labels`, and never trained on.
    held_out_fraction: in [0, 1); without `held_out`, that fraction of `raw` is held out, balanced over the classes.
    limits: the levels of images that become −1 and 1. None: the first of 0…1, −1…1 and 0…255 that holds all values
        and of which they span more than half, else their minimum and maximum. Points are standardised instead.

    Raises ValueError, with `name`, for other shapes, dtypes and ranges than these, for NaN or infinity, and where all
    samples are the same.
    """
    raw = _checked_samples(name, raw)
    labels = _checked_labels(name, labels, len(raw))
    units = _units(name, raw, limits)
    if held_out is None:
        if held_out_labels is not None:
            raise ValueError(f"{name}: expected held_out with held_out_labels, got None; give both")
        if not (0 <= held_out_fraction < 1 and round(held_out_fraction * len(raw)) < len(raw)):
            raise ValueError(
                f"{name}: expected held_out_fraction in [0, 1), with samples left to train on, got {held_out_fraction}"
            )
        keep, hold = split(len(raw), labels, held_out_fraction)
        raw, held_out = raw[keep], raw[hold]
        if labels is not None:
            labels, held_out_labels = labels[keep], labels[hold]
    else:
        held_out = _checked_samples(f"{name}, held out", held_out)
        held_out_labels = _checked_labels(f"{name}, held out", held_out_labels, len(held_out))
        if held_out.shape[1:] != raw.shape[1:]:
            raise ValueError(
                f"{name}: expected held-out samples of shape {raw.shape[1:]} as the others, got {held_out.shape[1:]}"
            )
    known = [given for given in (labels, held_out_labels) if given is not None and len(given)]
    return Dataset(
        name=name,
        x=units.from_units(raw),
        labels=labels,
        held_out=units.from_units(held_out) if len(held_out) else None,
        held_out_labels=held_out_labels if len(held_out) else None,
        classes=1 + int(max(given.max() for given in known)) if known else 0,
        units=units,
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
        hint = "; np.moveaxis(array, 1, -1) puts them last" if raw.shape[1] <= MAX_CHANNELS else ""
        raise ValueError(
            f"{name}: expected images (N, H, W, C), the 1 to 4 channels last, got an array {raw.shape}{hint}"
        )
    if len(raw) < 2:
        raise ValueError(f"{name}: expected at least 2 samples, got {len(raw)}")
    raw = raw[..., None] if raw.ndim in (1, 3) else raw
    if raw.dtype.kind == "f":
        # NaN fails the comparison too. What float32 cannot hold, the network cannot take.
        usable = np.abs(raw) <= np.finfo(np.float32).max
        if not usable.all():
            first = tuple(np.argwhere(~usable)[0].tolist())
            raise ValueError(
                f"{name}: expected finite numbers, got {raw[first]} in sample {first[0]} (counted from 0)"
            )
    return raw.astype(np.uint8) if raw.dtype.kind == "b" else raw


def _checked_labels(name: str, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
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


def _units(name: str, raw: np.ndarray, limits: tuple[float, float] | None) -> Units:
    low, high = raw.min(axis=0), raw.max(axis=0)
    varies = high.astype(np.float64) - low.astype(np.float64) > np.finfo(np.float32).tiny
    if not varies.any():
        raise ValueError(f"{name}: expected data that varies, got {len(raw)} samples that are all the same")
    if raw.ndim == 2:
        std = raw.std(axis=0, dtype=np.float64)
        # A coordinate that does not vary is only centred.
        scale = np.where(varies, std, 1.0)
        _check_resolution(name, low, high, np.where(varies, std, np.inf))
        return Units(tuple(raw.mean(axis=0, dtype=np.float64).tolist()), tuple(scale.tolist()))
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
