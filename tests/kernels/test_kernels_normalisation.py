"""Group norm, forward and backward, against its float64 reference."""

import numpy as np
import pytest
from closeness import assert_close, wide
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import reference, threads

EPS = 1e-5


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@st.composite
def cases(draw_from):
    """x, gamma, beta, groups: images or rows, some far from zero."""
    groups, size = draw_from(st.sampled_from([1, 2, 3, 8])), draw_from(st.sampled_from([1, 2, 4, 17]))
    shape = (draw_from(st.integers(1, 4)), *draw_from(st.sampled_from([(), (1,), (3,), (5, 4), (9, 8)])))
    seed, offset = draw_from(st.integers(0, 99)), draw_from(st.sampled_from([0, 5, 300]))
    channels = groups * size
    x = draw(seed, *shape, channels) + np.float32(offset)
    return x, draw(seed + 1, channels), draw(seed + 2, channels), groups


def spread(values, x):
    """(B, groups) → the shape of x."""
    each = np.repeat(values, x.shape[-1] // values.shape[1], axis=1)
    return np.broadcast_to(each.reshape(len(x), *[1] * (x.ndim - 2), -1), x.shape)


def group_mean(values, groups):
    grouped = values.reshape(len(values), -1, groups, values.shape[-1] // groups)
    return spread(grouped.mean(axis=(1, 3)), values)


@pytest.mark.compiled
@given(cases(), st.booleans())
def test_group_norm_forward_and_backward_match_the_reference(case, silu):
    x, gamma, beta, groups = case
    y, mean, rstd = kernels.group_norm(x, gamma, beta, groups, EPS, silu)
    exact = reference.group_norm(*wide(x, gamma, beta), groups, EPS, silu)
    x64, gamma64, beta64 = wide(x, gamma, beta)
    # Every number is rounded at the size of |x|, before the mean is subtracted: this limits the accuracy.
    x_hat = (np.abs(x64) + np.abs(spread(exact[1], x))) * spread(exact[2], x)
    z = x_hat * np.abs(gamma64) + np.abs(beta64)
    largest = np.abs(x64).max(axis=tuple(range(1, x.ndim)))[:, None]
    assert_close(mean, exact[1], np.broadcast_to(largest, mean.shape), 2)
    assert_close(y, exact[0], z, 8)
    relative = 1 + (np.abs(exact[1]) * exact[2]) ** 2 * 1e-6
    assert_close(rstd, exact[2], exact[2] * relative, 8)

    g = draw(3, *x.shape)
    got = kernels.group_norm_backward(g, x, gamma, beta, mean, rstd, silu)
    exact_gradients = reference.group_norm_backward(*wide(g, x, gamma, beta), *exact[1:], silu)
    dz = np.abs(g.astype(np.float64)) * ((1.1 + z / 2) if silu else 1)
    scaled = dz * np.abs(gamma64)
    dx = spread(exact[2], x) * (
        scaled + group_mean(scaled, groups) + x_hat * group_mean(scaled * x_hat, groups)
    )
    rows = tuple(range(x.ndim - 1))
    scales = dx, (dz * x_hat).sum(rows), dz.sum(rows)
    for one, two, scale in zip(got, exact_gradients, scales, strict=True):
        assert_close(one, two, scale, 8)


def test_a_large_mean_costs_no_more_than_its_rounding():
    x = draw(0, 1, 16, 16, 8) + np.float32(1000)
    _, _, rstd = kernels.group_norm(x, np.ones(8, "f4"), np.zeros(8, "f4"), 2, EPS, False)
    exact = reference.group_norm(x.astype(np.float64), np.ones(8), np.zeros(8), 2, EPS, False)[2]
    np.testing.assert_allclose(rstd, exact, rtol=1e-6)


@pytest.mark.parametrize("images", [1, 9])
def test_neither_threads_nor_batch_change_a_bit(images):
    x, gamma, beta, g = draw(0, images, 24, 24, 40), draw(1, 40), draw(2, 40), draw(3, images, 24, 24, 40)

    def both(x, g):
        y, mean, rstd = kernels.group_norm(x, gamma, beta, 5, EPS, True)
        return y, *kernels.group_norm_backward(g, x, gamma, beta, mean, rstd, True)

    before = threads.use(4)
    results = both(x, g)
    try:
        threads.use(1)
        for one, two in zip(both(x, g), results, strict=True):
            np.testing.assert_array_equal(one, two)
    finally:
        threads.use(before)
    for one, two in zip(both(x[-1:], g[-1:])[:2], results[:2], strict=True):
        np.testing.assert_array_equal(one, two[-1:])


def test_a_nan_fills_its_group_and_no_other():
    x = draw(0, 2, 4, 4, 12)
    x[1, 2, 3, 5] = np.nan
    y, _, _ = kernels.group_norm(x, np.ones(12, "f4"), np.zeros(12, "f4"), 3, EPS, True)
    expected = np.zeros(x.shape, bool)
    expected[1, :, :, 4:8] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_an_empty_batch_gives_empty_results():
    x, gamma = draw(0, 0, 3, 3, 4), draw(1, 4)
    y, mean, rstd = kernels.group_norm(x, gamma, gamma, 2, EPS, True)
    assert y.shape == x.shape and mean.shape == (0, 2)
    dx, dgamma, dbeta = kernels.group_norm_backward(x, x, gamma, gamma, mean, rstd, True)
    assert dx.shape == x.shape and not dgamma.any() and not dbeta.any()


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="groups must divide C = 6, got 4"):
        kernels.group_norm(draw(0, 1, 6), draw(1, 6), draw(2, 6), 4, EPS, False)
