"""How a float32 kernel is compared with its float64 reference: in roundings of the numbers that it sums."""

import numpy as np

from minidiff.kernels import reference

ROUNDING = 2.0**-24  # the largest relative error of one float32 operation


def wide(*values):
    """The same arguments in float64: those that are floating-point arrays."""
    return [
        v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype == np.float32 else v for v in values
    ]


def assert_close(got: np.ndarray, exact: np.ndarray, scale: np.ndarray, roundings: float) -> None:
    """|got − exact| ≤ roundings · 2⁻²⁴ · scale, entry by entry; scale is the sum of magnitudes."""
    assert got.dtype == np.float32 and got.shape == exact.shape
    allowed = roundings * ROUNDING * np.broadcast_to(scale, exact.shape)
    worst = np.abs(got - exact) - allowed
    assert np.all(worst <= 0), (
        f"off by {np.max(np.abs(got - exact) / np.maximum(allowed, 1e-300)):.2g} of the bound"
    )


def assert_product_close(kernel, name: str, *arguments, roundings: float = 8) -> np.ndarray:
    """For kernels that sum products: the scale is the reference on absolute values; the bound holds for any length."""
    specification = getattr(reference, name)
    got = kernel(*arguments)
    absolute = [np.abs(v) if isinstance(v, np.ndarray) else v for v in wide(*arguments)]
    assert_close(got, specification(*wide(*arguments)), specification(*absolute), roundings)
    return got
