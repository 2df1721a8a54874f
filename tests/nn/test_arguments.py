"""Every argument of a network is checked: an impossible value is a ValueError in one line that names the argument."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minidiff import nn

SMALL = {
    "mlp": dict(dim=2, width=8, depth=1, T=5),
    "unet": dict(size=4, channels=1, width=8, multipliers=(1, 2), depth=1, attention=(2,), groups=4),
}
ARGUMENTS = [
    pytest.param(kind, parameter.name, parameter.default, id=f"{kind}-{parameter.name}")
    for kind, constructor in nn.NETWORKS.items()
    for parameter in inspect.signature(constructor).parameters.values()
    if parameter.name != "rng"
]

NEVER = st.sampled_from([None, "", "8", b"8", object, 1j, math.nan, math.inf, -1, -1.5, {}, [None], ["a"]])
REALS = st.floats().filter(lambda value: not value.is_integer())
IMPOSSIBLE = {  # by the type of the default
    int: NEVER | REALS | st.booleans() | st.lists(st.integers(), min_size=3),
    tuple: NEVER | REALS | st.integers() | st.lists(st.integers(max_value=0) | REALS | st.none(), min_size=1),
    float: NEVER
    | st.floats(min_value=1)
    | st.floats(max_value=-1e-300)
    | st.booleans()
    | st.lists(st.floats()),
    bool: NEVER | st.integers() | st.floats() | st.lists(st.booleans()),
    str: NEVER | st.text() | st.integers() | st.lists(st.text()),
}
# Of 8 channels, these make no whole number.
FRACTIONS = st.floats().filter(lambda value: not value > 0 or abs(value * 8 % 1 - 0.5) < 0.4)
MULTIPLIERS = NEVER | FRACTIONS | st.just([]) | st.lists(st.integers(max_value=0) | FRACTIONS, min_size=1)


@pytest.mark.parametrize(("kind", "name", "default"), ARGUMENTS)
@given(data=st.data())
def test_an_impossible_value_is_refused_in_one_line_that_names_it(kind, name, default, data):
    value = data.draw(IMPOSSIBLE[type(default)] if name != "multipliers" else MULTIPLIERS)
    assume(name != "time_offset" or value != -1)
    with pytest.raises(ValueError) as caught:
        nn.NETWORKS[kind](np.random.default_rng(0), **SMALL[kind] | {name: value})
    assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", nn.NETWORKS)
@pytest.mark.parametrize(
    "rng", [None, 0, np.random, np.random.RandomState(0)], ids=["none", "seed", "module", "old"]
)
def test_an_rng_that_is_no_generator_is_refused(kind, rng):
    with pytest.raises(ValueError, match=r"^rng: expected a numpy Generator, got "):
        nn.NETWORKS[kind](rng, **SMALL[kind])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("unet", dict(width=9), "width: expected an even integer ≥ 4, got 9"),
        ("unet", dict(width=2), "width: expected an even integer ≥ 4, got 2"),
        (
            "unet",
            dict(size=(4, 4, 1)),
            "size: expected an integer ≥ 1 or a height and a width, got (4, 4, 1)",
        ),
        ("unet", dict(size=(4, 0)), "size: expected an integer ≥ 1 or a height and a width, got (4, 0)"),
        (
            "unet",
            dict(multipliers=(1, 1.3)),
            "multipliers: expected one or more numbers > 0 that make 8 channels a whole number, got (1, 1.3)",
        ),
        ("unet", dict(freq_shift=2), "freq_shift: expected an integer ≥ 0 and ≤ 1, got 2"),
        ("unet", dict(time_offset=-2), "time_offset: expected an integer ≥ -1, got -2"),
        ("unet", dict(norm_eps=0), "norm_eps: expected a number > 0 and < 1, got 0"),
        (
            "unet",
            dict(head_channels=3),
            "head_channels: expected a divisor of 16 channels, and heads = 1, got 3, and heads = 1",
        ),
        ("unet", dict(attention=(0,)), "attention: expected integers ≥ 1, got (0,)"),
        ("unet", dict(depth=0), "depth: expected an integer ≥ 1, got 0"),
        ("unet", dict(dropout=1.0), "dropout: expected a number ≥ 0 and < 1, got 1.0"),
        ("mlp", dict(classes=True), "classes: expected an integer ≥ 0, got True"),
        ("mlp", dict(learned_variance=1), "learned_variance: expected True or False, got 1"),
        ("mlp", dict(time="sinusoidal", width=5), "width: expected an even integer ≥ 4, got 5"),
        ("mlp", dict(time="sines"), "time: expected 'embedding' or 'sinusoidal', got 'sines'"),
    ],
    ids=str,
)
def test_a_refusal_names_what_was_expected_and_what_came(kind, settings, message):
    with pytest.raises(ValueError) as caught:
        nn.NETWORKS[kind](np.random.default_rng(0), **SMALL[kind] | settings)
    assert str(caught.value) == message


def test_numpy_integers_become_plain_ones_so_that_the_settings_fit_into_json():
    net = nn.MLP(np.random.default_rng(0), dim=np.int64(2), width=np.int32(8), T=np.int64(5))
    assert {type(net.settings[name]) for name in ("dim", "width", "T")} == {int}
