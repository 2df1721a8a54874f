"""The layers: their arithmetic, their initial parameters, the arguments that they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.nn import Module, layers
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear, sinusoidal


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def random(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


# ---- each layer applies one operation to its own parameters


def test_linear_is_x_w_plus_b(rng):
    layer = Linear(rng, 3, 5)
    layer.b.data[...] = random(rng, 5)
    x = random(rng, 2, 4, 3)
    np.testing.assert_allclose(layer(Tensor(x)).data, x @ layer.w.data + layer.b.data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_conv2d_keeps_the_size_at_stride_one_unless_padding_is_given(kernel, rng):
    assert Conv2d(rng, 2, 3, kernel)(Tensor(random(rng, 1, 6, 7, 2))).shape == (1, 6, 7, 3)
    bare = Conv2d(rng, 2, 3, kernel, stride=2, padding=((0, 0), (0, 1)))
    x = Tensor(random(rng, 1, 6, 7, 2))
    expected = ag.conv2d(x, bare.w, bare.b, stride=2, padding=((0, 0), (0, 1)))
    np.testing.assert_array_equal(bare(x).data, expected.data)


def test_embedding_returns_the_requested_rows(rng):
    layer = Embedding(rng, 4, 3)
    np.testing.assert_array_equal(layer(np.array([2, 0, 2])).data, layer.table.data[[2, 0, 2]])


def test_group_norm_starts_plain_and_applies_its_scale_shift_and_silu(rng):
    x = random(rng, 2, 3, 3, 4)
    plain, curved = GroupNorm(4, 2), GroupNorm(4, 2, silu=True)
    normal = ag.group_norm(
        Tensor(x), np.ones(4, np.float32), np.zeros(4, np.float32), groups=2, eps=1e-6
    ).data
    np.testing.assert_allclose(plain(Tensor(x)).data, normal, atol=1e-6)
    for layer in (plain, curved):
        layer.gamma.data[...], layer.beta.data[...] = 2, 1
    z = 2 * normal.astype(np.float64) + 1
    np.testing.assert_allclose(plain(Tensor(x)).data, z, atol=1e-5)
    np.testing.assert_allclose(curved(Tensor(x)).data, z / (1 + np.exp(-z)), atol=1e-5)


# ---- initial parameters


def test_initial_weights_are_uniform_with_glorots_variance_and_biases_zero(rng):
    for layer, fan_in, fan_out in ((Linear(rng, 200, 100), 200, 100), (Conv2d(rng, 40, 20, 3), 360, 180)):
        limit = math.sqrt(3 / ((fan_in + fan_out) / 2))
        w = layer.w.data.astype(np.float64)
        assert np.abs(w).max() <= limit * (1 + 1e-6)
        assert np.abs(w).max() > 0.99 * limit
        assert abs(w.mean()) < 5 * limit / math.sqrt(3 * w.size)
        np.testing.assert_allclose(w.var(), limit**2 / 3, rtol=0.05)
        assert not layer.b.data.any()


@given(scale=st.sampled_from([0.25, 1.0, 4.0]))
def test_scale_multiplies_the_initial_variance(scale):
    wide = Linear(np.random.default_rng(0), 8, 8, scale=scale).w.data
    np.testing.assert_allclose(
        wide, math.sqrt(scale) * Linear(np.random.default_rng(0), 8, 8).w.data, rtol=1e-6
    )


def test_scale_zero_initialises_the_zero_map(rng):
    assert not Conv2d(rng, 3, 4, 3, scale=0).w.data.any()
    assert not Linear(rng, 3, 4, scale=0).w.data.any()


def test_embedding_starts_with_the_given_standard_deviation(rng):
    np.testing.assert_allclose(Embedding(rng, 300, 100, std=0.5).table.data.std(), 0.5, rtol=0.05)


def test_every_layer_is_float32_and_all_its_parameters_are_trainable(rng):
    for layer in (Linear(rng, 2, 3), Conv2d(rng, 2, 3, 3), Embedding(rng, 2, 3), GroupNorm(4, 2)):
        assert all(p.dtype == np.float32 and p.requires_grad for p in layer.named_parameters().values())
    assert sorted(Linear(rng, 2, 3).named_parameters()) == ["b", "w"]


def test_the_same_seed_gives_the_same_initial_weights():
    first, second = (Conv2d(np.random.default_rng(9), 2, 3, 3).w.data for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_every_layer_of_the_module_is_tested_here():
    made = {n for n, item in vars(layers).items() if isinstance(item, type) and issubclass(item, Module)}
    assert made - {"Module"} == {"Linear", "Conv2d", "Embedding", "GroupNorm"}


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="6 channels do not divide into 4 groups"):
        GroupNorm(6, 4)


# ---- the embedding of time


@given(
    t=st.lists(st.integers(0, 4000), min_size=1, max_size=4),
    channels=st.integers(2, 20).map(lambda half: 2 * half),
)
def test_the_sinusoidal_embedding_is_that_of_the_paper(t, channels):
    half = channels // 2
    rows = []
    for time in t:
        frequencies = [10000 ** (-i / (half - 1)) for i in range(half)]
        rows.append([math.sin(time * f) for f in frequencies] + [math.cos(time * f) for f in frequencies])
    out = sinusoidal(np.array(t), channels)
    assert out.dtype == np.float32 and out.shape == (len(t), channels)
    np.testing.assert_allclose(out, rows, atol=1e-6)


def test_sinusoidal_frequencies_run_from_1_to_1e_minus_4_and_times_may_be_real():
    np.testing.assert_allclose(sinusoidal(np.array([0]), 6)[0], [0, 0, 0, 1, 1, 1])
    row = sinusoidal(np.array([1.5]), 6)[0]
    np.testing.assert_allclose(row[[0, 3]], [math.sin(1.5), math.cos(1.5)], rtol=1e-6)
    np.testing.assert_allclose(row[[2, 5]], [math.sin(1.5e-4), math.cos(1.5e-4)], rtol=1e-6)


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_sinusoidal_needs_an_even_number_of_channels_of_at_least_4(channels):
    with pytest.raises(ValueError, match=f"even number of channels ≥ 4, got {channels}"):
        sinusoidal(np.array([1]), channels)
