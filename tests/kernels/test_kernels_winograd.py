"""Winograd's convolution: its matrices against the definition, its kernels against the reference."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from closeness import assert_close, wide
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import convolution, frozen, reference, threads, winograd
from minidiff.kernels.microkernel import NR

CHANNELS = st.sampled_from([NR, 2 * NR, 3 * NR])
ENDS = st.tuples(st.integers(0, 2), st.integers(0, 2))
SAME = ((1, 1), (1, 1))


@pytest.fixture(scope="module", autouse=True)
def started():
    """The pool, as the package's functions start it before they call a kernel; those here are called by themselves."""
    threads.start()


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def assert_close_for_the_largest(got, exact, absolute, axes, roundings):
    """Within so many roundings of the largest sum of magnitudes along `axes`: an error spreads over a patch."""
    largest = absolute.max(axis=axes, keepdims=True, initial=0)
    assert_close(got, exact, largest, roundings)


def test_the_matrices_give_the_correlation_of_any_patch_with_any_kernel():
    b = winograd._BUTTERFLY @ winograd._B
    g = winograd._BUTTERFLY @ winograd._G
    a = winograd._A @ winograd._BUTTERFLY
    coefficients = np.einsum("ye,ek,ei->yki", a, g, b)  # the coefficient of pixel i and weight k in output y
    definition = np.array([[[float(i == y + k) for i in range(6)] for k in range(3)] for y in range(4)])
    np.testing.assert_allclose(coefficients, definition, atol=1e-14)


@given(st.data())
def test_forward_and_both_gradients_match_the_reference(data):
    padding = data.draw(ENDS), data.draw(ENDS)
    height, width = (data.draw(st.integers(max(1, 3 - sum(ends)), 13)) for ends in padding)
    batch, seed, c = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 99)), data.draw(CHANNELS)
    o = data.draw(CHANNELS)
    x, w = draw(seed, batch, height, width, c), draw(seed + 1, 3, 3, c, o)
    b = draw(seed + 2, *data.draw(st.sampled_from([(o,), (batch, o)])))
    size = height + sum(padding[0]) - 2, width + sum(padding[1]) - 2
    residual = draw(seed + 3, batch, *size, o) if data.draw(st.booleans()) else None
    shift = padding[0][0], padding[1][0]

    y = winograd.convolve(x, w, b, size, shift, False, residual)
    arguments = x, w, b, 1, padding, residual
    absolute = [np.abs(v) if isinstance(v, np.ndarray) else v for v in wide(*arguments)]
    exact, scale = reference.conv2d(*wide(*arguments)), reference.conv2d(*absolute)
    assert_close_for_the_largest(y, exact, scale, (1, 2), roundings=64)

    g = draw(seed + 4, *y.shape)
    back = winograd.convolve(
        g, w, np.zeros(c, np.float32), (height, width), (2 - shift[0], 2 - shift[1]), True, None
    )
    of_input = (height, width), 1, padding
    exact = reference.conv2d_backward_input(*wide(g, w), *of_input)
    scale = reference.conv2d_backward_input(np.abs(*wide(g)), np.abs(*wide(w)), *of_input)
    assert_close_for_the_largest(back, exact, scale, (1, 2), roundings=64)

    dw = winograd.backward_weight(x, g, shift)
    exact = reference.conv2d_backward_weight(*wide(x, g), (3, 3), 1, padding)
    scale = reference.conv2d_backward_weight(np.abs(*wide(x)), np.abs(*wide(g)), (3, 3), 1, padding)
    assert_close_for_the_largest(dw, exact, scale, (0, 1), roundings=128)


def all_results(x, w, b, g):
    return [
        kernels.conv2d(x, w, b, 1, SAME),
        kernels.conv2d_backward_input(g, w, x.shape[1:3], 1, SAME),
        kernels.conv2d_backward_weight(x, g, (3, 3), 1, SAME),
    ]


@pytest.fixture
def layer():
    """A layer that uses Winograd's algorithm: x, w, b and the output's gradient."""
    c, o = NR, 2 * NR
    assert winograd.suits(c, o, (9, 6))
    return draw(0, 37, 9, 6, c), draw(1, 3, 3, c, o), draw(2, o), draw(3, 37, 9, 6, o)


def test_the_number_of_threads_changes_no_bit(layer):
    before, results = threads.use(1), []
    try:
        for count in (1, 2, 4):
            threads.use(count)
            results.append(all_results(*layer))
    finally:
        threads.use(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.compiled
def test_an_image_has_the_same_bits_in_any_batch(layer):
    x, w, b, g = layer
    y, back, _ = all_results(x, w, b, g)
    for i in (0, 5, 36):
        np.testing.assert_array_equal(kernels.conv2d(x[i : i + 1], w, b, 1, SAME)[0], y[i])
        alone = kernels.conv2d_backward_input(g[i : i + 1], w, (9, 6), 1, SAME)
        np.testing.assert_array_equal(alone[0], back[i])


@pytest.mark.compiled
def test_a_bias_for_each_image_is_the_bias_of_that_image(layer):
    x, w, _, _ = layer
    b = draw(5, len(x), w.shape[3])
    y = kernels.conv2d(x, w, b, 1, SAME)
    for i in (0, 7, 36):
        np.testing.assert_array_equal(kernels.conv2d(x[i : i + 1], w, b[i], 1, SAME)[0], y[i])


@pytest.mark.compiled
def test_direct_convolution_can_be_chosen_and_is_more_exact(layer, monkeypatch):
    exact = all_results(*wide(*layer))
    by_winograd = all_results(*layer)
    monkeypatch.setattr(convolution, "WINOGRAD", False)
    directly = all_results(*layer)
    for true, fast, plain in zip(exact, by_winograd, directly, strict=True):
        assert np.abs(plain - true).max() < np.abs(fast - true).max()
        assert not np.array_equal(plain, fast)


@pytest.mark.parametrize("choice, winograd_is_used", [("direct", "False"), ("winograd", "True")])
def test_the_environment_chooses_between_them(choice, winograd_is_used):
    code = "from minidiff.kernels import convolution; print(convolution.WINOGRAD)"
    environment = {**os.environ, "MINIDIFF_CONVOLUTION": choice}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == winograd_is_used


def test_another_value_in_the_environment_is_refused():
    environment = {**os.environ, "MINIDIFF_CONVOLUTION": "fft"}
    done = subprocess.run(
        [sys.executable, "-c", "import minidiff.kernels"], env=environment, capture_output=True, text=True
    )
    assert "MINIDIFF_CONVOLUTION must be 'winograd' or 'direct', not 'fft'" in done.stderr


def test_it_is_not_used_for_small_images_or_channels_that_do_not_fill_registers():
    assert winograd.suits(NR, NR, (4, 4))
    assert not winograd.suits(NR, NR, (2, 2))
    assert not winograd.suits(NR + 1, NR, (8, 8)) and not winograd.suits(NR, 3, (8, 8))
    assert not winograd.suits(512, 256, (4, 4)) and winograd.suits(512, 256, (8, 8))


# ---- weights that are prepared once


@pytest.mark.compiled
def test_frozen_weights_give_the_same_bits_the_first_time_and_later(layer):
    x, w, b, g = layer
    once = kernels.freeze(w)
    for _ in range(2):
        for one, two in zip(all_results(x, w, b, g), all_results(x, once, b, g), strict=True):
            np.testing.assert_array_equal(one, two)
    flat, matrix = x.reshape(-1, x.shape[3]), w[1, 1]
    frozen_matrix = kernels.freeze(matrix)
    for _ in range(2):
        np.testing.assert_array_equal(kernels.linear(flat, matrix, b), kernels.linear(flat, frozen_matrix, b))


def test_a_frozen_array_is_a_read_only_copy(layer):
    x, w, b, _ = layer
    once = kernels.freeze(w)
    before = kernels.conv2d(x, once, b, 1, SAME)
    w *= 2
    np.testing.assert_array_equal(kernels.conv2d(x, once, b, 1, SAME), before)
    assert not np.array_equal(kernels.conv2d(x, w, b, 1, SAME), before)
    with pytest.raises(ValueError, match="read-only"):
        once *= 2


def test_nothing_is_cached_for_writeable_weights_nor_for_freed_frozen_ones(layer):
    x, w, b, _ = layer
    gc.collect()
    before = len(frozen._by_memory)
    kernels.conv2d(x, w, b, 1, SAME)
    assert len(frozen._by_memory) == before
    once = kernels.freeze(w)
    kernels.conv2d(x, once, b, 1, SAME)
    assert len(frozen._by_memory) == len(frozen._by_view) == before + 1
    del once
    gc.collect()
    assert len(frozen._by_memory) == len(frozen._by_view) == before
