"""The affine map between the network's range and the data's own units.

Images are mapped linearly from their lowest and highest level to [−1, 1] (EQUATIONS.md V11: {0…255} and back without
loss), points coordinate by coordinate to mean 0 and standard deviation 1.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


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

    def to_units(self, x: npt.ArrayLike) -> np.ndarray:
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
        x: np.ndarray = np.subtract(raw, self.offset, dtype=work, order="C")
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

    def _checked(self, values: npt.ArrayLike) -> np.ndarray:
        values = np.asarray(values)
        if isinstance(self.scale, tuple) and values.shape[-1:] != (len(self.scale),):
            raise ValueError(f"expected an array (…, {len(self.scale)}), got the shape {values.shape}")
        return values
