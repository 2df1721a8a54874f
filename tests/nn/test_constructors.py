"""Every constructor that draws parameters takes rng as its first argument, and draws from nothing else."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from minidiff import nn
from minidiff.nn import Module

MODULES = [
    importlib.import_module(f"minidiff.nn.{found.name}") for found in pkgutil.iter_modules(nn.__path__)
]
CLASSES = {
    item
    for module in MODULES
    for item in vars(module).values()
    if isinstance(item, type) and issubclass(item, Module) and item.__module__ == module.__name__
}


def parameters_of(constructor):
    """The parameters after self; none where a class inherits the constructor of `object`."""
    if constructor.__init__ is object.__init__:
        return []
    return list(inspect.signature(constructor).parameters.values())


def takes_rng(constructor):
    return any(p.name == "rng" or "Generator" in str(p.annotation) for p in parameters_of(constructor))


def by_name(classes):
    return sorted(classes, key=lambda item: item.__name__)


def test_the_classes_of_the_package_are_found():
    assert {"Linear", "Conv2d", "Embedding", "GroupNorm", "MLP", "UNet", "ResidualBlock"} <= {
        item.__name__ for item in CLASSES
    }
    assert {item.__name__ for item in CLASSES if takes_rng(item)} >= {"Linear", "Conv2d", "Embedding"}


@pytest.mark.parametrize("constructor", by_name(filter(takes_rng, CLASSES)))
def test_rng_is_the_first_argument_and_has_no_default(constructor):
    first = parameters_of(constructor)[0]
    assert (first.name, first.default) == ("rng", inspect.Parameter.empty)
    assert "Generator" in str(first.annotation)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_module_makes_a_generator_or_uses_the_global_one(module):
    source = inspect.getsource(module)
    assert "default_rng" not in source
    assert source.count("np.random.") == source.count("np.random.Generator")


SMALL = {
    "Linear": dict(inputs=3, outputs=2),
    "Conv2d": dict(inputs=3, outputs=2, kernel=3),
    "Embedding": dict(rows=3, channels=4),
    "MLP": dict(width=8),
    "UNet": dict(size=4, channels=1, width=8, multipliers=(1,), depth=1, attention=(4,), groups=4),
    "ResidualBlock": dict(inputs=4, outputs=8, time_width=4, groups=2, dropout=0.0),
    "SelfAttention": dict(channels=4, heads=2, groups=2),
    "Downsample": dict(channels=4),
    "Upsample": dict(channels=4),
}


@pytest.mark.parametrize("constructor", by_name(filter(takes_rng, CLASSES)))
def test_the_parameters_depend_on_the_rng_alone(constructor):
    def made(seed):
        module = constructor(np.random.default_rng(seed), **SMALL[constructor.__name__])
        return {name: p.data for name, p in module.named_parameters().items()}

    first, again, other = made(0), made(0), made(1)
    assert first and first.keys() == again.keys() == other.keys()
    for name, data in first.items():
        np.testing.assert_array_equal(data, again[name], err_msg=name)
    assert any((data != other[name]).any() for name, data in first.items())


def test_a_layer_without_random_parameters_takes_no_rng():
    assert not takes_rng(nn.layers.GroupNorm)


@pytest.mark.parametrize("constructor", [nn.MLP, nn.UNet])
@pytest.mark.parametrize("width", [4, 128])
def test_more_layers_than_memory_holds_are_refused_before_the_first_is_made(constructor, width):
    """Each of them is small, and to make a billion would take hours."""
    groups = {"groups": 4} if constructor is nn.UNet else {}
    with pytest.raises(
        MemoryError, match=r"parameters of (hidden layers|residual blocks) need .*, and .* are free"
    ):
        constructor(np.random.default_rng(0), width=width, depth=10**9, **groups)
