"""Implicit GEMM, for convolution and the linear layer: the kernels against the reference and against themselves."""

import numpy as np
import pytest
from closeness import assert_product_close
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import convolution, threads

# None of which fills the registers: Winograd's algorithm has tests of its own
CHANNELS = st.sampled_from([1, 3, 8, 17, 36, 40])
ENDS = st.tuples(st.integers(0, 2), st.integers(0, 2))
SAME = ((1, 1), (1, 1))


@pytest.fixture(autouse=True, scope="module")
def direct():
    """Without Winograd's algorithm, which is tested elsewhere with a wider bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "WINOGRAD", False)
        yield


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@st.composite
def convolutions(draw_from):
    """x, w, b, stride and padding that fit together."""
    kh, kw = draw_from(st.integers(1, 5)), draw_from(st.integers(1, 5))
    padding = draw_from(ENDS), draw_from(ENDS)
    height = draw_from(st.integers(max(1, kh - sum(padding[0])), 9))
    width = draw_from(st.integers(max(1, kw - sum(padding[1])), 9))
    batch, seed = draw_from(st.integers(0, 5)), draw_from(st.integers(0, 99))
    c, o = draw_from(CHANNELS), draw_from(CHANNELS)
    x, w, b = draw(seed, batch, height, width, c), draw(seed + 1, kh, kw, c, o), draw(seed + 2, o)
    return x, w, b, draw_from(st.integers(1, 3)), padding


@given(convolutions())
def test_conv2d_forward_and_backward_match_the_reference(case):
    x, w, b, stride, padding = case
    y = assert_product_close(kernels.conv2d, "conv2d", x, w, b, stride, padding)
    g = draw(3, *y.shape)
    backward_input = (g, w, x.shape[1:3], stride, padding)
    assert_product_close(kernels.conv2d_backward_input, "conv2d_backward_input", *backward_input)
    backward_weight = (x, g, w.shape[:2], stride, padding)
    assert_product_close(kernels.conv2d_backward_weight, "conv2d_backward_weight", *backward_weight)


@given(st.integers(0, 150), *[st.sampled_from([1, 2, 7, 8, 31, 32, 33, 128, 300])] * 2, st.integers(0, 99))
def test_linear_forward_and_backward_match_the_reference(n, i, o, seed):
    x, w, b, g = draw(seed, n, i), draw(seed + 1, i, o), draw(seed + 2, o), draw(seed + 3, n, o)
    assert_product_close(kernels.linear, "linear", x, w, b)
    assert_product_close(kernels.linear_backward_input, "linear_backward_input", g, w)
    assert_product_close(kernels.linear_backward_weight, "linear_backward_weight", x, g)


@pytest.mark.parametrize("channels, columns", [(64, 40), (9, 128)])
def test_sums_over_several_blocks_of_a_micro_panel_match_the_reference(channels, columns):
    x, w, b = draw(0, 2, 9, 9, channels), draw(1, 5, 5, channels, columns), draw(2, columns)
    assert_product_close(kernels.conv2d, "conv2d", x, w, b, 1, ((2, 2), (2, 2)))
    long = draw(3, 70, channels * 50), draw(4, channels * 50, columns), b
    assert_product_close(kernels.linear, "linear", *long)


def all_products(x, w, b, g):
    flat = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return [
        kernels.conv2d(x, w, b, 1, SAME),
        kernels.conv2d_backward_input(g, w, x.shape[1:3], 1, SAME),
        kernels.conv2d_backward_weight(x, g, (3, 3), 1, SAME),
        kernels.linear(flat[0], w[0, 0], b),
        kernels.linear_backward_input(flat[1], w[0, 0]),
        kernels.linear_backward_weight(*flat),
    ]


@pytest.mark.parametrize("channels, columns", [(32, 40), (17, 33), (3, 96), (32, 3)])
def test_the_number_of_threads_changes_no_bit(channels, columns):
    arrays = draw(0, 20, 8, 8, channels), draw(1, 3, 3, channels, columns), draw(2, columns)
    g = draw(3, 20, 8, 8, columns)
    before = threads.use(1)
    results = []
    try:
        for count in (1, 2, 4):
            threads.use(count)
            results.append(all_products(*arrays, g))
    finally:
        threads.use(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.compiled
@pytest.mark.parametrize("size, columns", [(1, 40), (4, 40), (7, 40), (7, 2)])
def test_an_image_has_the_same_bits_in_any_batch(size, columns):
    x, w, b = draw(0, 37, size, size, 48), draw(1, 3, 3, 48, columns), draw(2, columns)
    g = draw(3, 37, size, size, columns)
    together, back = (
        kernels.conv2d(x, w, b, 1, SAME),
        kernels.conv2d_backward_input(g, w, (size, size), 1, SAME),
    )
    rows = kernels.linear(x.reshape(-1, 48), w[0, 0], b)
    for i in (0, 5, 36):
        np.testing.assert_array_equal(kernels.conv2d(x[i : i + 1], w, b, 1, SAME), together[i : i + 1])
        alone = kernels.conv2d_backward_input(g[i : i + 1], w, (size, size), 1, SAME)
        np.testing.assert_array_equal(alone, back[i : i + 1])
        np.testing.assert_array_equal(kernels.linear(x[i, 0], w[0, 0], b), rows[i * size * size :][:size])


def test_a_nan_reaches_what_depends_on_it_and_nothing_else():
    x, w, b, g = draw(0, 2, 6, 6, 16), draw(1, 3, 3, 16, 16), draw(2, 16), draw(3, 2, 6, 6, 16)
    x[1, 2, 3, 4] = g[1, 2, 3, 4] = np.nan
    touched = np.zeros((2, 6, 6), bool)
    touched[1, 1:4, 2:5] = True
    np.testing.assert_array_equal(np.isnan(kernels.conv2d(x, w, b, 1, SAME)).all(-1), touched)
    np.testing.assert_array_equal(np.isnan(kernels.conv2d(x, w, b, 1, SAME)).any(-1), touched)
    back = np.isnan(kernels.conv2d_backward_input(g, w, (6, 6), 1, SAME))
    np.testing.assert_array_equal(back.all(-1), touched)
    dw = np.isnan(kernels.conv2d_backward_weight(x, g, (3, 3), 1, SAME))
    assert dw[:, :, 4].all() and dw[..., 4].all() and not dw[:, :, :4, :4].any()


def test_a_kernel_that_does_not_fit_and_unequal_shapes_are_refused():
    x, w, b = draw(0, 1, 2, 2, 3), draw(1, 3, 3, 3, 4), draw(2, 4)
    with pytest.raises(ValueError, match="does not fit"):
        kernels.conv2d(x, w, b, 1, ((0, 0), (0, 0)))
    with pytest.raises(ValueError, match=r"w must be \(kh, kw, C, O\) = \(kh, kw, 2, O\)"):
        kernels.conv2d(x[..., :2], w, b, 1, SAME)
    with pytest.raises(ValueError, match=r"b must be \(O,\) = \(4,\)"):
        kernels.linear(x[0, 0], w[0, 0], b[:3])
    with pytest.raises(ValueError, match=r"g must be \(B, H', W', O\) = \(1, 2, 2, O\)"):
        kernels.conv2d_backward_weight(x, draw(3, 1, 2, 3, 4), (3, 3), 1, SAME)
