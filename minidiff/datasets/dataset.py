"""What a data set is: samples in the network's range, some held out, and the map to and from its own units.

Images are mapped linearly from their lowest and highest level to [−1, 1] (ledger V11: {0…255} and back
without loss), points coordinate by coordinate to mean 0 and standard deviation 1.
"""

from dataclasses import asdict, dataclass

import numpy as np

# The ranges in which images are usually stored: fractions, signed fractions, bytes.
USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
MOST_CLASSES = 1 << 16
MOST_CHANNELS = 4


@dataclass(frozen=True)
class Units:
    """The affine map `units = offset + scale · x` between the network's range (x) and the data's own units.

    `offset` and `scale` (> 0) are numbers, or tuples with one number for each entry of the last axis. They
    survive JSON exactly. Raises ValueError when they are not finite, not positive, or do not match.
    """

    offset: float | tuple[float, ...]
    scale: float | tuple[float, ...]

    def __post_init__(self):
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

        A float32 in [−1, 1] carries about 24 bits. What lies beyond 21 is rounded away, so that whole levels
        come back as whole levels.
        """
        x = self._checked(x)
        grid = np.exp2(np.ceil(np.log2(self.scale)) - 21)
        return (np.round((x * np.asarray(self.scale) + self.offset) / grid) * grid).astype(np.float32)

    def from_units(self, raw: np.ndarray) -> np.ndarray:
        """`raw` (…) in the data's own units, as float32 in the network's range."""
        raw = self._checked(raw)
        # Two bytes are exact in float32, and a large set of images is not blown up eightfold on the way.
        work = np.float32 if raw.dtype.itemsize <= 2 else np.float64
        x = np.subtract(raw, self.offset, dtype=work)
        x /= np.asarray(self.scale, work)
        return x.astype(np.float32, copy=False)

    def to_dict(self) -> dict:
        """A dictionary for JSON, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Units":
        """The `Units` that `to_dict` wrote; ValueError when it is anything else."""
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
    (N, H, W, C) in [−1, 1]. Labels are int64 in 0…classes−1, or None, and then `classes` is 0.
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
    held_out_part: float = 0.1,
    limits: tuple[float, float] | None = None,
) -> Dataset:
    """A `Dataset` of samples in their own units: points (N,) or (N, D), images (N, H, W) or (N, H, W, C ≤ 4).

    What is held out is given in `held_out`, or is split off: `held_out_part` of the samples. `limits` are the
    lowest and highest level of images; None takes the usual range that fits, else what occurs.

    Raises ValueError, naming `name`, for fewer than 2 samples, other shapes and types, NaN or infinity, data
    that is all the same, and labels that are no class numbers or not one for each sample.
    """
    raw, labels = _checked_samples(name, raw), _checked_labels(name, labels, len(raw))
    if held_out is None:
        keep, hold = split(len(raw), labels, held_out_part)
        units = _units(name, raw, limits)
        raw, held_out = raw[keep], raw[hold]
        if labels is not None:
            labels, held_out_labels = labels[keep], labels[hold]
    else:
        units = _units(name, raw, limits)
        held_out = _checked_samples(name, held_out)
        held_out_labels = _checked_labels(name, held_out_labels, len(held_out))
        if held_out.shape[1:] != raw.shape[1:]:
            raise ValueError(
                f"{name}: samples have the shape {raw.shape[1:]}, but the held-out {held_out.shape[1:]}"
            )
    known = [part for part in (labels, held_out_labels) if part is not None and len(part)]
    return Dataset(
        name=name,
        x=units.from_units(raw),
        labels=labels,
        held_out=units.from_units(held_out) if len(held_out) else None,
        held_out_labels=held_out_labels if len(held_out) else None,
        classes=1 + int(max(part.max() for part in known)) if known else 0,
        units=units,
    )


def split(count: int, labels: np.ndarray | None, part: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices to keep, and round(part · count) to hold out, both rising; of each class its share to within 1.

    The split is always the same, whatever the run's seed: what one run trained on, no other takes for new.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(count)
    labels = np.zeros(count, int) if labels is None else labels
    order = order[np.argsort(labels[order], kind="stable")]
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    # Spread each class evenly over (0, 1), from a random first place: the lowest hold a share of every class.
    place = (np.arange(count) - np.repeat(start - rng.random(len(size)), size)) / np.repeat(size, size)
    order = order[np.argsort(place, kind="stable")]
    held = round(part * count)
    return np.sort(order[held:]), np.sort(order[:held])


def _checked_samples(name: str, raw: np.ndarray) -> np.ndarray:
    raw = np.asarray(raw)
    if raw.dtype.kind not in "buif":
        raise ValueError(f"{name}: expected real numbers, got entries of type {raw.dtype}")
    if raw.ndim not in (1, 2, 3, 4) or 0 in raw.shape[1:]:
        raise ValueError(f"{name}: expected points (N, D) or images (N, H, W, C), got an array {raw.shape}")
    if raw.ndim == 4 and raw.shape[-1] > MOST_CHANNELS:
        raise ValueError(
            f"{name}: expected images (N, H, W, C), the 1 to 4 channels last, got an array {raw.shape}"
        )
    if len(raw) < 2:
        raise ValueError(f"{name}: expected at least 2 samples, got {len(raw)}")
    raw = raw[..., None] if raw.ndim in (1, 3) else raw
    if raw.dtype.kind == "f":
        # NaN fails the comparison too. What float32 cannot hold, the network cannot see.
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
            f"{name}: expected {count} integer labels, got an array {labels.shape} of {labels.dtype}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise ValueError(
            f"{name}: expected labels that count classes from 0, below {MOST_CLASSES}, got {low}…{high}"
        )
    return labels.astype(np.int64)


def _units(name: str, raw: np.ndarray, limits: tuple[float, float] | None) -> Units:
    low, high = raw.min(axis=0), raw.max(axis=0)
    varies = high.astype(np.float64) - low.astype(np.float64) > np.finfo(np.float32).tiny
    if not varies.any():
        raise ValueError(f"{name}: expected data that varies, got {len(raw)} samples that are all the same")
    if raw.ndim == 2:
        spread = raw.std(axis=0, dtype=np.float64)
        # A coordinate that never varies is only moved to 0.
        return Units(raw.mean(axis=0, dtype=np.float64), np.where(varies, spread, 1.0))
    bottom, top = limits or _range(float(low.min()), float(high.max()))
    return Units((top + bottom) / 2, (top - bottom) / 2)


def _range(low: float, high: float) -> tuple[float, float]:
    """The first usual range that holds low…high and is filled by more than half, else low and high."""
    for bottom, top in USUAL_RANGES:
        if bottom <= low and high <= top and high - low > (top - bottom) / 2:
            return bottom, top
    return low, high
