"""The exponential, SiLU, sums over rows and the passes over flat vectors, against their float64 references."""

import numba
import numpy as np
import pytest
from closeness import ROUNDING, assert_close, assert_product_close, wide
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import reference, threads
from minidiff.kernels.math32 import exp


@numba.njit(error_model="numpy")
def exp_of(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = exp(x[i])
    return y


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_exp_has_a_relative_error_below_2e_7_where_float32_is_normal():
    x = np.linspace(-87.3, 88.7, 300_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exp_of(x) - exact) / exact) < 2e-7


def test_exp_at_the_ends_of_its_range_and_of_nan():
    x = np.array([0, -0.0, np.inf, -np.inf, 88.8, 500, -104, -500], np.float32)
    np.testing.assert_array_equal(exp_of(x), np.array([1, 1, np.inf, 0, np.inf, np.inf, 0, 0], np.float32))
    assert np.isnan(exp_of(np.array([np.nan], np.float32)))[0]
    assert exp_of(np.array([-100], np.float32))[0] == pytest.approx(np.exp(-100), rel=0.03)  # denormal


@given(st.integers(0, 200), st.floats(0.1, 20), st.integers(0, 99))
def test_silu_and_its_gradient_match_the_reference(size, spread, seed):
    x, g = draw(seed, size) * np.float32(spread), draw(seed + 1, size)
    exact = reference.silu(x.astype(np.float64))
    # The sigmoid of the reference has an absolute error of 2⁻⁵³, not a relative one.
    assert_close(kernels.silu(x), exact, np.abs(exact) + 2.0**-29 * np.abs(x), 6)
    scale = np.abs(g) * (1 + np.abs(x)) / (1 + np.exp(-x.astype(np.float64)))
    assert_close(
        kernels.silu_backward(g, x),
        reference.silu_backward(*wide(g, x)),
        scale + 2.0**-29 * (1 + np.abs(x)) * np.abs(g),
        6,
    )


@pytest.mark.parametrize("function", ["silu", "silu_backward"])
def test_a_large_array_on_all_threads_has_the_bits_of_its_slices(function):
    x = draw(0, 5, 100, 100) * 5
    arguments = (x,) if function == "silu" else (x[::-1], x)
    whole = getattr(kernels, function)(*arguments)
    for i in range(5):
        np.testing.assert_array_equal(getattr(kernels, function)(*(a[i] for a in arguments)), whole[i])


def test_silu_of_nan_and_infinity_matches_the_reference():
    x = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(kernels.silu(x), reference.silu(x))


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (128, 16, 9), (3, 50, 201)])
def test_add_has_the_bits_of_numpy_and_memory_of_its_own(shape):
    a, b = draw(0, *shape), draw(1, *shape)
    total = kernels.add(a, b)
    np.testing.assert_array_equal(total, a + b)
    assert not np.shares_memory(total, a) and not np.shares_memory(total, b)


def test_add_does_not_broadcast():
    with pytest.raises(ValueError, match=r"b must be \(\.\.\.\) = "):
        kernels.add(draw(0, 4, 3), draw(1, 3))


@pytest.mark.parametrize("shape", [(8192, 32), (1000, 3), (6, 200), (4099, 1)])
def test_the_number_of_threads_changes_no_bit_of_sum_rows(shape):
    g, before = draw(0, *shape), threads.use(4)
    total = kernels.sum_rows(g)
    try:
        threads.use(1)
        np.testing.assert_array_equal(kernels.sum_rows(g), total)
    finally:
        threads.use(before)


@given(st.integers(0, 1200), st.sampled_from([1, 3, 16, 17, 40]), st.integers(0, 99))
def test_sum_rows_matches_the_reference(rows, channels, seed):
    assert_product_close(kernels.sum_rows, "sum_rows", draw(seed, rows, channels))


@given(st.integers(0, 60), st.sampled_from([1, 17, 32]), st.integers(1, 9), st.integers(0, 99))
def test_scatter_rows_matches_the_reference(count, channels, rows, seed):
    g, index = draw(seed, count, channels), np.random.default_rng(seed).integers(0, rows, count)
    assert_product_close(kernels.scatter_rows, "scatter_rows", g, index, rows)
    assert_product_close(kernels.scatter_rows, "scatter_rows", g, index.astype(np.int32), rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [-1, 3])
def test_scatter_rows_refuses_an_index_out_of_range(dtype, bad):
    with pytest.raises(IndexError, match="index must lie in 0…2"):
        kernels.scatter_rows(np.ones((2, 4), dtype), np.array([0, bad]), 3)


@pytest.mark.parametrize("size", [0, 1, 17, 1024, 40_000])
@pytest.mark.parametrize("averaged", [True, False])
def test_adam_matches_the_reference(size, averaged):
    parameter, gradient, first = draw(0, size), draw(1, size), draw(2, size)
    second, ema = draw(3, size) ** 2, draw(4, size)
    exact = wide(parameter, gradient, first, second, ema)
    settings = (7, 1e-2, (0.9, 0.999), 1e-8, 0.3, 0.99)
    step = np.abs(first) + np.abs(gradient)
    untouched = ema.copy()
    kernels.adam(parameter, gradient, [first, second], ema if averaged else None, *settings)
    reference.adam(*exact[:2], exact[2:4], exact[4] if averaged else None, *settings)
    assert_close(first, exact[2], step, 4)
    assert_close(second, exact[3], exact[3], 8)
    scale = np.abs(exact[0]) + step / np.sqrt(exact[3])
    assert_close(parameter, exact[0], scale, 4)
    assert not gradient.any()
    assert_close(ema, exact[4], np.abs(exact[4]) + scale, 4)
    assert averaged or np.array_equal(ema, untouched)


def test_adam_leaves_padding_zero_and_does_not_warn_of_nan():
    zeros = [np.zeros(8, np.float32) for _ in range(5)]
    zeros[1][3] = np.nan
    kernels.adam(*zeros[:2], zeros[2:4], zeros[4], 1, 1e-2, (0.9, 0.999), 1e-8, 1.0, 0.5)
    assert not zeros[1].any()
    for changed in (zeros[0], zeros[2], zeros[3], zeros[4]):
        assert np.isnan(changed[3]) and not np.delete(changed, 3).any()


@pytest.mark.parametrize("size", [0, 1, 17, 100_000])
def test_squared_norm_is_summed_in_float64_whatever_the_threads(size):
    vector = draw(0, size)
    result = kernels.squared_norm(vector)
    assert isinstance(result, float) and result == pytest.approx(reference.squared_norm(vector), rel=1e-12)
    before = threads.use(1)
    try:
        assert kernels.squared_norm(vector) == result
    finally:
        threads.use(before)
    if size:
        vector[size // 2] = np.nan
        assert np.isnan(kernels.squared_norm(vector))


def test_rounding_is_one_rounding_of_float32():
    assert np.float32(1) + np.float32(2 * ROUNDING) > 1 and np.float32(1) + np.float32(ROUNDING) == 1
