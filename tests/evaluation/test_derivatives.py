"""Derivatives of networks as plain functions: against finite differences, and with no side effects."""

import numpy as np
import pytest

from minidiff import classifier, nn
from minidiff.evaluation.derivatives import class_gradient, network_vjp, without_gradients

T = np.array([1, 5, 9])


def some_net(**settings):
    """A float64 network with random parameters, the last layer's included, which starts at zero."""
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, **settings)
    nn.ParameterVector(net, np.float64)
    for p in net.named_parameters().values():
        p.data[...] = 0.3 * rng.standard_normal(p.shape)
    return net


def differences(function, x, h=1e-5):
    """∂ Σ function/∂x for function (B, …) → (B,), by central differences."""
    gradient = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        gradient[index] = (function(x + step) - function(x - step)).sum() / (2 * h)
    return gradient


@pytest.mark.parametrize(
    ("settings", "label"), [({}, None), ({"classes": 3}, 2), ({"learned_variance": True}, None)]
)
def test_the_vjp_of_a_network_agrees_with_finite_differences(settings, label):
    net = some_net(**settings)
    x, v = np.random.default_rng(1).standard_normal((2, 3, 4, 4, 1))
    labels = None if label is None else np.full(3, label)
    expected = differences(lambda x: (net(x, T, labels)[..., :1] * v).sum(axis=(1, 2, 3)), x)
    np.testing.assert_allclose(network_vjp(net, label)(x, T, v), expected, rtol=1e-6, atol=1e-7)


def test_the_parameters_accumulate_no_gradient_and_are_the_same_arrays():
    net, x = some_net(), np.ones((3, 4, 4, 1))
    output = net(x, T)
    before = {name: p.grad.copy() for name, p in net.named_parameters().items()}
    network_vjp(net)(x, T, np.ones_like(x))
    for name, p in net.named_parameters().items():
        np.testing.assert_array_equal(p.grad, before[name])
    copied = without_gradients(net)
    assert copied.named_parameters() == {}
    for p in net.named_parameters().values():
        p.data *= 0.5
    np.testing.assert_array_equal(copied(x, T), net(x, T))
    assert (copied(x, T) != output).any()


def test_the_gradient_of_a_class_agrees_with_finite_differences():
    net = classifier.Classifier(np.random.default_rng(0), (8, 8, 1), 3)
    x = np.random.default_rng(1).standard_normal((3, 8, 8, 1))
    gradient = class_gradient(net, 2)(x.astype(np.float32), T)
    nn.ParameterVector(net, np.float64)
    expected = differences(lambda x: np.log(net.probabilities(x)[:, 2]), x)
    assert gradient.shape == x.shape and np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_a_class_out_of_range_is_refused():
    with pytest.raises(ValueError, match="0…2, got 3"):
        class_gradient(classifier.Classifier(np.random.default_rng(0), (8, 8, 1), 3), 3)
