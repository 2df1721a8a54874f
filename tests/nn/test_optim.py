"""Adam, EMA, warm-up and clipping against the equations, number by number in plain Python floats."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import optim
from minidiff.nn import aligned_zeros


def textbook_adam(values, gradients, lrs, beta1, beta2, eps, scale):
    """Kingma & Ba 2015, algorithm 1, one number at a time; eps stands outside the root."""
    out = []
    for i, theta in enumerate(values):
        m = v = 0.0
        for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), start=1):
            m = beta1 * m + (1 - beta1) * scale * g[i]
            v = beta2 * v + (1 - beta2) * (scale * g[i]) ** 2
            theta -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        out.append(theta)
    return out


def aligned(numbers, dtype=np.float64):
    vector = aligned_zeros(len(numbers), dtype)
    vector[...] = numbers
    return vector


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 6),
    betas=st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.9)]),
    eps=st.sampled_from([1e-8, 0.3]),
    scale=st.sampled_from([1.0, 0.25]),
)
def test_adam_is_algorithm_1_of_its_paper(seed, steps, betas, eps, scale):
    rng = np.random.default_rng(seed)
    start, gradients = rng.standard_normal(7), rng.standard_normal((steps, 7))
    lrs = [0.1 / (1 + k) for k in range(steps)]
    expected = textbook_adam(start.tolist(), gradients.tolist(), lrs, *betas, eps, scale)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        values = aligned(start, dtype)
        adam = optim.Adam(values, *betas, eps)
        for g, lr in zip(gradients, lrs, strict=True):
            given = aligned(g, dtype)
            adam.update(given, lr, scale)
            assert not given.any()  # ready for the next sum
        assert adam.step == steps and adam.values is values and values.dtype == dtype
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)


def test_the_defaults_of_adam_are_those_of_its_paper():
    values = aligned([1.0, 1.0])
    adam = optim.Adam(values)
    adam.update(aligned([3.0, -1e-3]), lr=2e-4)
    np.testing.assert_allclose(
        values, textbook_adam([1, 1], [[3, -1e-3]], [2e-4], 0.9, 0.999, 1e-8, 1), rtol=1e-14
    )
    np.testing.assert_allclose(values, [1 - 2e-4, 1 + 2e-4], rtol=1e-8)  # the first step has length lr


def test_adam_does_not_move_what_has_no_gradient():
    values = aligned([0.0, 5.0])
    adam = optim.Adam(values)
    for _ in range(3):
        adam.update(aligned([0.0, 0.0]), lr=1.0)
    np.testing.assert_array_equal(values, [0, 5])


def test_a_nan_in_the_gradient_is_not_hidden():
    values = aligned([1.0, 1.0], np.float32)
    optim.Adam(values).update(aligned([np.nan, 1.0], np.float32), lr=0.1)
    assert np.isnan(values[0]) and np.isfinite(values[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
def test_the_decay_of_the_ema_rises_with_the_step_to_its_final_value(dtype, decay):
    rng = np.random.default_rng(0)
    adam = optim.Adam(aligned(rng.standard_normal(5), dtype))
    ema = optim.EMA(adam.values, decay)
    expected = adam.values.astype(np.float64)
    np.testing.assert_array_equal(ema.values, adam.values)
    for n in range(1, 31):
        adam.update(aligned(rng.standard_normal(5), dtype), 0.1, ema=ema)
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * adam.values
    assert ema.values.dtype == dtype
    np.testing.assert_allclose(ema.values, expected, rtol=2e-5 if dtype == np.float32 else 1e-13)


def test_the_ema_starts_as_a_copy_of_the_weights():
    values = aligned([1.0, 2.0])
    ema = optim.EMA(values)
    values[...] = 0
    np.testing.assert_array_equal(ema.values, [1, 2])


def test_the_ema_soon_forgets_the_initial_weights():
    adam = optim.Adam(aligned([1.0]))
    ema = optim.EMA(aligned([100.0]))
    for _ in range(100):
        adam.update(aligned([0.0]), lr=0.1, ema=ema)
    assert abs(ema.values[0] - 1) < 1e-3  # with 0.9999 from the first step it would still be 99


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        optim.EMA(aligned([1.0]), decay)


def test_warm_up_rises_linearly_to_one_and_stays():
    assert [optim.warm_up(step, 4) for step in range(1, 7)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert optim.warm_up(1, 0) == 1 and optim.warm_up(1, 1) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_scale_shortens_only_what_is_longer_than_the_limit(dtype):
    gradients = aligned([3.0, 0.0, -4.0], dtype)
    assert optim.clip_scale(gradients, 1.0) == (5.0, 0.2)
    assert optim.clip_scale(gradients, 5.0) == (5.0, 1.0)  # exactly at the limit
    assert optim.clip_scale(gradients, 6.0) == (5.0, 1.0)
    assert optim.clip_scale(gradients, math.inf) == (5.0, 1.0)
    np.testing.assert_array_equal(gradients, [3, 0, -4])


def test_clip_scale_of_no_gradient_is_one():
    assert optim.clip_scale(aligned([0.0, 0.0]), 1.0) == (0.0, 1.0)


@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_clip_scale_propagates_a_nan(limit):
    norm, scale = optim.clip_scale(aligned([1.0, math.nan], np.float32), limit)
    assert math.isnan(norm) and math.isnan(scale)


def test_the_norm_does_not_overflow_in_float32():
    norm, scale = optim.clip_scale(aligned([3e30, -4e30], np.float32), 1.0)
    np.testing.assert_allclose([norm, scale], [5e30, 2e-31], rtol=1e-6)
