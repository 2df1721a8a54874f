"""Hypothesis strategies for schedules, and the comparison that the property tests share."""

import numpy as np
from hypothesis import strategies as st

from minidiff import schedules


@st.composite
def any_schedule(draw, min_T: int = 1, max_T: int = 3000, extreme: float = 17.0) -> schedules.Schedule:
    """β in any range from 1/(1+e^extreme) to 1 − 1/(1+e^extreme), in any order; often a very short schedule."""
    T = draw(st.one_of(st.integers(min_T, min_T + 5), st.integers(min_T, max_T)))
    low, high = sorted(draw(st.tuples(*[st.floats(-extreme, extreme)] * 2)))
    between = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(T)
    logits = low + (high - low) * between  # `uniform` refuses the range from 0 to −0
    return schedules.from_betas(1 / (1 + np.exp(-logits)))


@st.composite
def gentle_schedule(draw, min_T: int = 1, max_T: int = 300) -> schedules.Schedule:
    """A shipped schedule of any length whose range of β makes it end near noise, with ᾱ_T above 1e-12."""
    T = draw(st.integers(min_T, max_T))
    name = draw(st.sampled_from(["linear", "quadratic", "sigmoid", "constant", "cosine"]))
    if name == "cosine":
        return schedules.cosine(T, s=draw(st.floats(0.005, 0.1)), beta_max=0.9)
    end = min(0.9, draw(st.floats(2.0, 15.0)) / T)
    if name == "constant":
        return schedules.constant(T, end)
    return schedules.SCHEDULES[name](T, end / 100, end)


def assert_close(got, expected, scale=0.0, tolerance=1e-12):
    """Equal to `tolerance` relative to the largest of both and of `scale`, the size of the terms they are sums of."""
    got, expected, scale = np.broadcast_arrays(got, expected, scale)
    allowed = tolerance * np.maximum.reduce([np.abs(got), np.abs(expected), np.abs(scale)])
    worst = np.max(np.abs(got - expected) - allowed, initial=-np.inf)
    assert np.all(np.isfinite(got)) and worst <= 1e-300, f"the error exceeds the tolerance by {worst}"


def log_normal(x, mean, variance):
    """log N(x; mean, variance)."""
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))
