"""Laws to draw points from: the documents' mixture on the line (ledger S5) and four shapes in the plane.

Each law is a function `(count, rng) → (count, D)` float64, in the units in which the law is written down. Its
points are independent, so there are always fresh ones to hold a sampler against.
"""

import numpy as np


def mixture1d(count: int, rng: np.random.Generator) -> np.ndarray:
    """S5: 30 % N(0.5, 0.01²), 40 % N(0.1, 0.03²), 30 % N(−0.4, 0.01²)."""
    part = rng.choice(3, size=count, p=[0.3, 0.4, 0.3])
    mean = np.array([0.5, 0.1, -0.4])[part]
    std = np.array([0.01, 0.03, 0.01])[part]
    return (mean + std * rng.standard_normal(count))[:, None]


def s_curve(count: int, rng: np.random.Generator) -> np.ndarray:
    """An S: two three-quarter circles of radius 1 that meet in the origin, blurred by 0.1 (ledger S11)."""
    angle = 1.5 * np.pi * rng.uniform(-1, 1, count)
    curve = np.stack([np.sin(angle), np.sign(angle) * (np.cos(angle) - 1)], axis=1)
    return curve + 0.1 * rng.standard_normal((count, 2))


def moons(count: int, rng: np.random.Generator) -> np.ndarray:
    """Two interlocking half circles of radius 1, blurred by 0.05."""
    angle = np.pi * rng.random(count)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.array([1.0, 0.5]) - upper
    half = rng.random((count, 1)) < 0.5
    return np.where(half, upper, lower) + 0.05 * rng.standard_normal((count, 2))


def swiss_roll(count: int, rng: np.random.Generator) -> np.ndarray:
    """A spiral of one and a half turns, its radius the angle, 1.5π to 4.5π, blurred by 0.4."""
    angle = np.pi * rng.uniform(1.5, 4.5, count)
    curve = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return curve + 0.4 * rng.standard_normal((count, 2))


def checkerboard(count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on the eight dark unit squares of a 4 × 4 board over [−2, 2]²; the lower left one is dark."""
    column = rng.integers(0, 4, count)
    row = 2 * rng.integers(0, 2, count) + column % 2
    corner = np.stack([column, row], axis=1) - 2.0
    return corner + rng.random((count, 2))


LAWS = {
    "mixture1d": mixture1d,
    "s-curve": s_curve,
    "moons": moons,
    "swiss-roll": swiss_roll,
    "checkerboard": checkerboard,
}


def draw(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` fresh points of the law `name`: (count, 1) or (count, 2) float64, in the law's own units.

    Raises ValueError for a name that is not in `LAWS`.
    """
    if name not in LAWS:
        raise ValueError(f"no law is called {name!r}; fresh points can be drawn from {', '.join(LAWS)}")
    return LAWS[name](count, rng)
