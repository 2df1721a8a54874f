"""Distributions to draw points from: a 1-D Gaussian mixture (EQUATIONS.md S5) and four shapes in the plane.

Each is a function `(count, rng) → (count, D)` float64, in the distribution's own units. The points are independent, so
that there are always fresh ones to compare a sampler with.
"""

from collections.abc import Callable

import numpy as np


def mixture1d(count: int, rng: np.random.Generator) -> np.ndarray:
    """S5: 30 % N(0.5, 0.01²), 40 % N(0.1, 0.03²), 30 % N(−0.4, 0.01²)."""
    component = rng.choice(3, size=count, p=[0.3, 0.4, 0.3])
    mean = np.array([0.5, 0.1, -0.4])[component]
    std = np.array([0.01, 0.03, 0.01])[component]
    points: np.ndarray = (mean + std * rng.standard_normal(count))[:, None]
    return points


def s_curve(count: int, rng: np.random.Generator) -> np.ndarray:
    """An S: two three-quarter circles of radius 1 that meet in the origin, with noise of std 0.1 (S11)."""
    angle = 1.5 * np.pi * rng.uniform(-1, 1, count)
    curve = np.stack([np.sin(angle), np.sign(angle) * (np.cos(angle) - 1)], axis=1)
    return curve + 0.1 * rng.standard_normal((count, 2))


def moons(count: int, rng: np.random.Generator) -> np.ndarray:
    """Two interlocking half circles of radius 1, with noise of std 0.05."""
    angle = np.pi * rng.random(count)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.array([1.0, 0.5]) - upper
    is_upper = rng.random((count, 1)) < 0.5
    points: np.ndarray = np.where(is_upper, upper, lower) + 0.05 * rng.standard_normal((count, 2))
    return points


def swiss_roll(count: int, rng: np.random.Generator) -> np.ndarray:
    """A spiral of one and a half turns whose radius is the angle, 1.5π to 4.5π, with noise of std 0.4."""
    angle = np.pi * rng.uniform(1.5, 4.5, count)
    curve: np.ndarray = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return curve + 0.4 * rng.standard_normal((count, 2))


def checkerboard(count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on the eight dark unit squares of a 4 × 4 board over [−2, 2]²; the lower left one is dark."""
    column = rng.integers(0, 4, count)
    row = 2 * rng.integers(0, 2, count) + column % 2
    corner = np.stack([column, row], axis=1) - 2.0
    return corner + rng.random((count, 2))


DISTRIBUTIONS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "mixture1d": mixture1d,
    "s-curve": s_curve,
    "moons": moons,
    "swiss-roll": swiss_roll,
    "checkerboard": checkerboard,
}


def draw(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` independent points of the distribution `name`: (count, 1) or (count, 2) float64, in its own units.

    Raises ValueError for a name that is not in `DISTRIBUTIONS`.
    """
    if name not in DISTRIBUTIONS:
        raise ValueError(
            f"no distribution is called {name!r}; points can be drawn from {', '.join(DISTRIBUTIONS)}"
        )
    return DISTRIBUTIONS[name](count, rng)
