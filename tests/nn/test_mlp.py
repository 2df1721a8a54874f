"""The MLP for points: its arithmetic written out, its parameters, the arguments that it refuses."""

import numpy as np
import pytest

from minidiff.nn import MLP, ParameterVector
from minidiff.nn.layers import sinusoidal


def reference_mlp(named, x, t, label, depth, sinusoidal_time):
    """h ← SiLU(h·w + b + time [+ class]) and a linear layer, from the parameters by name."""
    h, width = x, len(named["last.w"])
    for i in range(depth):
        of_layer = slice(i * width, (i + 1) * width)
        h = h @ named[f"hidden.{i}.w"] + named[f"hidden.{i}.b"]
        if sinusoidal_time:
            h = h + sinusoidal(t, width) @ named["times.w"][:, of_layer] + named["times.b"][of_layer]
        else:
            h = h + named["times.table"][t - 1, of_layer]
        if label is not None:
            h = h + named["labels.table"][label, of_layer]
        h = h / (1 + np.exp(-h))
    return h @ named["last.w"] + named["last.b"]


@pytest.mark.parametrize("time", ["embedding", "sinusoidal"])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_network_computes_the_equation_of_its_docstring(time, classes, depth):
    net = MLP(np.random.default_rng(0), dim=2, width=8, depth=depth, T=9, time=time, classes=classes)
    ParameterVector(net, np.float64)
    named = {name: p.data for name, p in net.named_parameters().items()}
    rng = np.random.default_rng(1)
    for data in named.values():
        data[...] = rng.standard_normal(data.shape)
    x, t = rng.standard_normal((4, 2)), np.array([1, 9, 4, 4])
    label = np.array([0, 1, 2, 2]) if classes else None
    expected = reference_mlp(named, x, t, label, depth, time == "sinusoidal")
    np.testing.assert_allclose(net(x, t, label), expected, rtol=1e-10, atol=1e-12)


def test_the_default_mlp_has_128_units_and_a_time_embedding_for_each_layer():
    net = MLP(np.random.default_rng(0))
    shapes = {name: p.shape for name, p in net.named_parameters().items()}
    assert shapes["hidden.0.w"] == (1, 128) and shapes["hidden.2.w"] == (128, 128)
    assert shapes["times.table"] == (1000, 3 * 128)
    hidden = (1 * 128 + 128) + 2 * (128 * 128 + 128)
    assert net.count_parameters() == hidden + 3 * 1000 * 128 + (128 + 1)


def test_the_sinusoidal_form_has_no_table_of_times():
    net = MLP(np.random.default_rng(0), dim=2, time="sinusoidal", classes=10)
    hidden = (2 * 128 + 128) + 2 * (128 * 128 + 128)
    assert net.count_parameters() == hidden + 3 * (128 * 128 + 128) + 3 * 11 * 128 + (128 * 2 + 2)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_times_may_have_any_integer_type_and_0_is_refused_in_each(kind):
    net = MLP(np.random.default_rng(0), width=8, T=300)
    x = np.ones((2, 1), np.float32)
    np.testing.assert_array_equal(net(x, np.array([1, 255], kind)), net(x, np.array([1, 255])))
    with pytest.raises(ValueError, match="times run 1…300, got 0…1"):
        net(x, np.array([0, 1], kind))


def test_a_learned_variance_doubles_the_coordinates_of_the_output():
    net = MLP(np.random.default_rng(0), dim=3, width=8, learned_variance=True)
    assert net(np.ones((4, 3), np.float32), np.full(4, 2)).shape == (4, 6)


def test_an_unknown_kind_of_time_embedding_is_refused():
    with pytest.raises(ValueError, match="'embedding' or 'sinusoidal', got 'fourier'"):
        MLP(np.random.default_rng(0), time="fourier")
