"""Checks of session 10: masses that sum to 1, the bound in bits, and the optimum on finite data by its oracle."""

import math
from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import likelihood, oracles, schedules


def check_level_mass(f: Callable) -> str | None:
    """Φ((high − μ)/σ) − Φ((low − μ)/σ), half a level, 1/(levels − 1), to either side; open at both ends (V6)."""
    levels, mean, sigma = 5, 0.3, 0.4
    got = np.array([f(k, mean, sigma, levels) for k in range(levels)], dtype=float)
    values = np.linspace(-1, 1, levels)
    expected = np.exp(likelihood.log_level_mass(values, np.full(levels, mean), sigma**2, levels))

    def masses(half: float, scale: float = sigma, opened: bool = True) -> np.ndarray:
        edges = np.stack([values - half, values + half])
        if opened:
            edges[0, 0], edges[1, -1] = -np.inf, np.inf
        cdf = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2)((edges - mean) / scale)
        return cdf[1] - cdf[0]

    errors = {
        "are the first and the last bin open?": masses(0.25, opened=False),
        "is it half a level to either side? A level is 2/(levels − 1)": masses(0.5),
        "are there levels − 1 steps between the levels? 1/levels is too narrow": masses(0.2),
        "have you divided by σ², where σ belongs?": masses(0.25, scale=sigma**2),
        "is it the density? A probability is its integral over the bin": (
            np.exp(-((values - mean) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        ),
    }
    about = f"the masses of 5 levels, which sum to {got.sum():.4g}: that of one"
    return compare(about, got, expected, errors)


def check_bits_per_dim(f: Callable) -> str | None:
    """L_T, all L_{t−1} and L_0 add up to nats of a whole image. log 2 nats are a bit; 8 × 8 × 1 are 64 dimensions."""
    rng, shape = np.random.default_rng(0), (4, 4, 3)
    prior, steps, data = rng.uniform(0.5, 1, 2), rng.uniform(0.1, 1, (9, 2)), rng.uniform(5, 10, 2)
    total, dimensions = prior + steps.sum(axis=0) + data, math.prod(shape)
    errors = {
        "have you forgotten log 2? These are nats per dimension": total / dimensions,
        "have you multiplied by log 2? A nat is more than a bit": total / dimensions * math.log(2),
        "have you forgotten the channels?": total / (16 * math.log(2)),
        "have you forgotten to divide by the number of dimensions?": total / math.log(2),
        "have you averaged over t? The bound is a sum": (prior + steps.mean(axis=0) + data)
        / (dimensions * math.log(2)),
        "have you left out L_T?": (total - prior) / (dimensions * math.log(2)),
        "have you left out L_0? Without it the sum is no bound (V3)": (total - data)
        / (dimensions * math.log(2)),
        "have you left out the steps?": (prior + data) / (dimensions * math.log(2)),
    }
    expected = likelihood.bits_per_dim(total, np.zeros((2, *shape)))
    return compare("bits/dim of two images", f(prior, steps, data, shape), expected, errors)


def check_best_x0(f: Callable) -> str | None:
    """Weights ∝ exp(−‖x − √ᾱ x_i‖²/(2(1−ᾱ))): subtract the largest exponent first, or all of them underflow."""
    rng = np.random.default_rng(1)
    points, x = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    schedule = schedules.linear(T=10, beta_start=0.02, beta_end=0.3)
    for t, scale in ((6, 1.0), (1, 30.0)):
        a = schedule.alpha_bar[t]

        def average(logits: np.ndarray) -> np.ndarray:
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            return p @ points / p.sum(axis=1, keepdims=True)

        at = scale * x
        squares = ((at[:, None] - np.sqrt(a) * points) ** 2).sum(axis=2)
        errors = {
            "do the exponents lack ½?": average(-squares / (1 - a)),
            "have you divided by √(1−ᾱ), where its square belongs?": average(-squares / (2 * np.sqrt(1 - a))),
            "are the points scaled by √ᾱ, as F4 does?": average(
                -((at[:, None] - points) ** 2).sum(axis=2) / (2 * (1 - a))
            ),
            "is it the distance, where its square belongs?": average(-np.sqrt(squares) / (2 * (1 - a))),
            "is it the point that is farthest? The exponent is negative": average(squares / (2 * (1 - a))),
            "is it the nearest point alone? Others count too": points[np.argmin(squares, axis=1)],
            "have you forgotten to divide by the sum of the weights?": (
                np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * (1 - a))) @ points
            ),
        }
        with np.errstate(all="ignore"):
            got = np.asarray(f(at.copy(), a, points.copy()), dtype=float)
        far = " at x far from all points, where densities underflow" if scale > 1 else ""
        wrong = compare(
            f"x̂_0 for ᾱ = {a:.2f}{far}", got, oracles.FiniteData(points).x0(schedule, at, t), errors
        )
        if wrong and not np.isfinite(got).all():
            return f"{wrong}: subtract the largest exponent before exp"
        if wrong:
            return wrong
    return None
