"""Attention, forward and backward, against its float64 reference."""

import numpy as np
import pytest
from closeness import assert_close, wide
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import reference, threads


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def assert_matches(q, k, v, g, heads):
    out, weights = kernels.attention(q, k, v, heads)
    exact_out, exact_weights = reference.attention(*wide(q, k, v), heads)
    gradients = kernels.attention_backward(g, q, k, v, weights)
    exact = reference.attention_backward(*wide(g, q, k, v), exact_weights)
    weights, exact_weights = weights.swapaxes(2, 3), exact_weights.swapaxes(2, 3)  # one row a query

    def split(a):
        return np.abs(a.astype(np.float64)).reshape(*a.shape[:2], heads, -1).swapaxes(1, 2)

    def join(a):
        return a.swapaxes(1, 2).reshape(a.shape[0], a.shape[2], -1)

    root = np.sqrt(q.shape[2] / heads)
    q, k, v, g = split(q), split(k), split(v), split(g)
    # A score is off by roundings of Σ|q||k|; exp turns that into a relative error, also of the sum of its row.
    scores = q @ k.swapaxes(2, 3) / root
    error = exact_weights * (1 + scores.max(-1, keepdims=True, initial=0))
    dweights = g @ v.swapaxes(2, 3)
    dscores = (exact_weights + error) * (dweights + (dweights * exact_weights).sum(-1, keepdims=True)) / root
    dscores = dscores + exact_weights * (dweights * error).sum(-1, keepdims=True) / root
    assert_close(weights, exact_weights, error + 1e-30, 8)
    assert_close(out, exact_out, join(error @ v), 8)
    scales = join(dscores @ k), join(dscores.swapaxes(2, 3) @ q), join(error.swapaxes(2, 3) @ g)
    for got, expected, scale in zip(gradients, exact, scales, strict=True):
        assert_close(got, expected, scale + 1e-30, 8)


@given(
    st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 3, 16, 33]), st.integers(0, 99),
)  # fmt: skip
def test_attention_forward_and_backward_match_the_reference(batch, n, m, heads, size, seed):
    queries, keys = (batch, n, heads * size), (batch, m, heads * size)
    assert_matches(draw(seed, *queries), draw(1, *keys), draw(2, *keys), draw(3, *queries), heads)


@pytest.mark.parametrize("n, size", [(1024, 8), (40, 512), (1, 1)])
def test_long_wide_and_single(n, size):
    assert_matches(*(draw(i, 1, n, size) for i in range(4)), 1)


def test_scores_far_apart_neither_overflow_nor_vanish():
    q, k, v = draw(0, 1, 5, 8) * 100, draw(1, 1, 9, 8) * 100, draw(2, 1, 9, 8)
    out, weights = kernels.attention(q, k, v, 1)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=1e-6)


def test_neither_threads_nor_batch_change_a_bit():
    q, k, v, g = (draw(i, 6, 64, 64) for i in range(4))

    def both(*arrays):
        out, weights = kernels.attention(*arrays[:3], 2)
        return out, *kernels.attention_backward(arrays[3], *arrays[:3], weights)

    before = threads.use(4)
    results = both(q, k, v, g)
    try:
        threads.use(1)
        for one, two in zip(both(q, k, v, g), results, strict=True):
            np.testing.assert_array_equal(one, two)
    finally:
        threads.use(before)
    for one, two in zip(both(*(a[4:5] for a in (q, k, v, g))), results, strict=True):
        np.testing.assert_array_equal(one, two[4:5])


def test_a_nan_in_a_query_fills_its_row_and_no_other():
    q, k, v = (draw(i, 2, 5, 4) for i in range(3))
    q[1, 3, 2] = np.nan
    out, _ = kernels.attention(q, k, v, 1)
    assert np.isnan(out[1, 3]).all() and np.isnan(out).sum() == 4


def test_a_nan_in_a_key_reaches_every_row_of_its_image():
    q, k, v = draw(0, 2, 5, 4), draw(1, 2, 40, 4), draw(2, 2, 40, 4)
    k[1, 33, 2] = np.nan
    out, _ = kernels.attention(q, k, v, 1)
    assert np.isnan(out[1]).all() and not np.isnan(out[0]).any()


def test_an_empty_batch_gives_empty_results():
    empty = draw(0, 0, 5, 4)
    out, weights = kernels.attention(empty, empty, empty, 2)
    assert out.shape == (0, 5, 4) and weights.shape == (0, 2, 5, 5)
    for gradient in kernels.attention_backward(empty, empty, empty, empty, weights):
        assert gradient.shape == (0, 5, 4)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="heads must divide C = 4, got 3"):
        kernels.attention(*(draw(i, 1, 2, 4) for i in range(3)), 3)
