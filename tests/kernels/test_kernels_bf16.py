"""bf16: NumPy's rounding and layout on every machine, the kernels beside an emulation where the processor has it."""

import numpy as np
import pytest

from minidiff import kernels, nn
from minidiff.kernels import bf16, reference, threads, winograd_bf16

needs_bf16 = pytest.mark.skipif(not bf16.AVAILABLE or kernels._MODE == "reference", reason="no bf16 here")
SAME = ((1, 1), (1, 1))
HALVED = ((0, 1), (0, 1))


def widened(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x):
    return widened(bf16.round_to_bf16(x)).astype(np.float64)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_numbers_are_rounded_to_the_nearest_bf16_and_ties_to_even():
    ulp = 2.0**-7  # of a bf16 in 1 … 2
    x = np.float32(
        [1, 1 + 0.49 * ulp, 1 + ulp / 2, 1 + 1.5 * ulp, 1 + 0.51 * ulp, -3e38, np.inf, -np.inf, 0, -0.0]
    )
    expected = np.float32(
        [1, 1, 1, 1 + 2 * ulp, 1 + ulp, widened(np.uint16([0xFF62]))[0], np.inf, -np.inf, 0, -0.0]
    )
    got = widened(bf16.round_to_bf16(x))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
    every_nan = np.uint32([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF]).view(np.float32)
    assert np.isnan(widened(bf16.round_to_bf16(every_nan))).all()


def test_pairs_of_rows_hold_the_first_row_in_the_lower_half():
    w = rounded(normal(2, 6, 5)).astype(np.float32)
    halves = bf16.row_pairs(w).view(np.uint16).reshape(2, 3, 5, 2)
    np.testing.assert_array_equal(widened(halves[..., 0]), w[:, ::2])
    np.testing.assert_array_equal(widened(halves[..., 1]), w[:, 1::2])


def test_winograd_at_its_points_is_the_direct_convolution():
    d, w = normal(6, 6).astype(np.float64), normal(3, 3, seed=1)
    to_v, to_u = winograd_bf16._BUTTERFLY @ winograd_bf16._B, winograd_bf16._BUTTERFLY @ winograd_bf16._G
    to_y = winograd_bf16._A @ winograd_bf16._BUTTERFLY
    y = to_y @ ((to_u @ w @ to_u.T) * (to_v @ d @ to_v.T)) @ to_y.T
    direct = [[(d[i : i + 3, j : j + 3] * w).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(y, direct, atol=1e-12)


@needs_bf16
def test_rounding_in_kernels_is_that_of_numpy():
    x = np.random.default_rng(0).integers(0, 2**32, 64 * 1024, dtype=np.uint32).view(np.float32)
    x = x.reshape(64, -1)
    threads.start()
    x[np.abs(x) < np.finfo(np.float32).tiny] = 0  # the instruction flushes subnormal numbers
    got, expected = bf16.to_pairs(x).view(np.uint16), bf16.round_to_bf16(x)
    finite = ~np.isnan(x)
    np.testing.assert_array_equal(got[finite], expected[finite])
    assert np.isnan(widened(got[~finite])).all()


@needs_bf16
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 16, 1), (9, 64, 96), (70, 592, 33)])
def test_linear_is_the_product_of_rounded_numbers(rows, inputs, outputs):
    x, w, b = normal(rows, inputs), normal(inputs, outputs, seed=1), normal(outputs, seed=2)
    y = kernels.linear(x, kernels.freeze(w, "bf16"), b)
    assert_close(y, rounded(x) @ rounded(w) + b, np.abs(x) @ np.abs(w) + np.abs(b), inputs)


@needs_bf16
@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, HALVED), (3, 1, SAME), (1, 1, ((0, 0), (0, 0)))])
def test_direct_convolution_is_that_of_rounded_numbers(kernel, stride, padding):
    x, w, b = normal(2, 7, 6, 48), normal(kernel, kernel, 48, 40, seed=1), normal(2, 40, seed=2)
    y = kernels.conv2d(x, kernels.freeze(w, "bf16"), b, stride, padding)
    expected = reference.conv2d(rounded(x), rounded(w), b.astype(float), stride, padding)
    sums = reference.conv2d(np.abs(x), np.abs(w), np.abs(b), stride, padding)
    assert_close(y, expected, sums, kernel**2 * 48)


def assert_close(y, expected, magnitudes, terms):
    """float32 sums of exact products: each of the additions may round by 2⁻²⁴ of the sum of magnitudes, at most."""
    assert np.all(np.abs(y - expected) <= 1.02 * magnitudes * (terms + 2) * 2.0**-24)


@needs_bf16
@pytest.mark.parametrize("batch, height, width", [(1, 8, 8), (3, 9, 14), (40, 4, 4)])
def test_winograd_in_bf16_is_near_to_the_exact_convolution(batch, height, width):
    """Eight roundings of 2⁻⁹ of the norm, where the direct sum comes to one and the points ±1, ±2 to eleven."""
    x, w, b = normal(batch, height, width, 32), normal(3, 3, 32, 64, seed=1), normal(batch, 64, seed=2)
    residual = 30 * normal(batch, height, width, 64, seed=3)
    y = kernels.conv2d(x, kernels.freeze(w, "bf16"), b, 1, SAME, residual)
    expected = reference.conv2d(x.astype(float), w.astype(float), b, 1, SAME)
    error = np.linalg.norm(y - residual - expected) / np.linalg.norm(expected)
    assert 2.0**-9 < error < 8 * 2.0**-9


@needs_bf16
def test_a_network_in_bf16_has_the_same_bits_on_any_number_of_threads():
    net = nn.UNet(
        np.random.default_rng(0), size=16, channels=1, width=32, multipliers=(1, 2), groups=8, depth=1
    )
    for p in net.named_parameters().values():
        p.data = 0.2 * normal(*p.shape)
    x, t = normal(3, 16, 16, 1), np.array([1, 10, 100])
    in_float32 = nn.frozen(net)(x, t)
    before, outputs = threads.use(1), []
    try:
        for count in (1, 2, 4):
            threads.use(count)
            outputs.append(nn.frozen(net, "bf16")(x, t))
    finally:
        threads.use(before)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(nn.frozen(net, "bf16")(x[:1], t[:1]), outputs[0][:1])
    difference = np.linalg.norm(outputs[0] - in_float32) / np.linalg.norm(in_float32)
    assert 1e-5 < difference < 0.05
    np.testing.assert_array_equal(nn.frozen(net)(x, t), in_float32)


@needs_bf16
def test_an_mlp_in_bf16_is_refused():
    net = nn.frozen(nn.MLP(np.random.default_rng(0), dim=2, width=32), "bf16")
    with pytest.raises(ValueError, match="precision bf16 is for convolutions and linear layers"):
        net(normal(4, 2), np.array([1, 2, 3, 4]))


@pytest.mark.parametrize(("available", "mode"), [(False, "numba"), (True, "reference")])
def test_bf16_is_refused_where_it_is_not_to_be_had(monkeypatch, available, mode):
    monkeypatch.setattr(bf16, "AVAILABLE", available)
    monkeypatch.setattr(kernels, "_MODE", mode)
    with pytest.raises(ValueError, match=r"precision bf16 needs .* use float32"):
        nn.frozen(nn.Linear(np.random.default_rng(0), 16, 16), "bf16")
    nn.frozen(nn.Linear(np.random.default_rng(0), 16, 16))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="expected 'float32' or 'bf16', got 'fp8'"):
        nn.frozen(nn.Linear(np.random.default_rng(0), 16, 16), "fp8")
