"""Every setting keeps to its range and choices, and an error names the setting."""

import itertools
import math
import operator
from dataclasses import FrozenInstanceError, dataclass, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import nn, schedules
from minidiff.options import OptionError, Options, parse, setting
from minidiff.training import NetworkOptions, ScheduleOptions, TrainingOptions

KINDS = TrainingOptions, ScheduleOptions, NetworkOptions
FIELDS = [(kind, about) for kind in KINDS for about in fields(kind) if about.metadata]
every_field = pytest.mark.parametrize(
    ("kind", "about"), FIELDS, ids=[f"{kind.__name__}.{about.name}" for kind, about in FIELDS]
)
COMPARE = {"≥": operator.ge, ">": operator.gt, "<": operator.lt, "≤": operator.le}


def with_value(kind, name, value):
    """Options with one value; of a schedule that has this β, where it is one, and with a batch for so many shards."""
    needed = {"beta": {"schedule": "constant"}, "shards": {"batch": 2**50}}
    return kind(**needed.get(name, {}) | {name: value})


def assert_refused(kind, name, value):
    with pytest.raises(OptionError) as caught:
        with_value(kind, name, value)
    assert str(caught.value).startswith(f"{name}: expected ") and "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"got {value!r}")


def numbers_near(limit):
    """The limit, its neighbours, and some far away."""
    below, above = np.nextafter(limit, -math.inf), np.nextafter(limit, math.inf)
    return [limit, float(below), float(above), limit - 1, limit + 1, -(10**9), 10**9]


# ---- all fields, from their metadata


@every_field
def test_the_default_is_allowed_and_every_setting_has_a_help(kind, about):
    assert getattr(with_value(kind, about.name, about.default), about.name) == about.default
    assert getattr(kind(), about.name) == about.default
    assert about.metadata["help"] and "\n" not in about.metadata["help"]


@every_field
def test_each_choice_is_allowed_and_nothing_else(kind, about):
    choices = tuple(about.metadata["choices"])
    for choice in choices:
        assert getattr(kind(**{about.name: choice}), about.name) == choice
    if choices:
        for value in ("", "none", choices[0].upper(), choices[0] + " ", 0, True, ["linear"]):
            assert_refused(kind, about.name, value)


NUMERIC = [(kind, about) for kind, about in FIELDS if about.metadata["type"] in (int, float)]


@pytest.mark.parametrize(("kind", "about"), NUMERIC, ids=[about.name for _, about in NUMERIC])
@given(data=st.data())
def test_each_number_is_allowed_exactly_inside_its_limits(kind, about, data):
    limits, whole = about.metadata["limits"], about.metadata["type"] is int
    assert limits, "a number without limits"
    near = [number for limit in limits.values() for number in numbers_near(limit)]
    strategy = st.sampled_from(near) | st.integers(-(2**40), 2**40) | st.floats(-2, 2) | st.floats()
    value = data.draw(strategy)
    inside = all(COMPARE[sign](value, limit) for sign, limit in limits.items())
    if inside and math.isfinite(value) and (isinstance(value, int) or not whole):
        assert getattr(with_value(kind, about.name, value), about.name) == value
    else:
        assert_refused(kind, about.name, value)


@every_field
@pytest.mark.parametrize("value", ["1", b"1", [1.5], {}, object, 1j, math.nan], ids=repr)
def test_a_value_of_another_type_is_refused(kind, about, value):
    assert_refused(kind, about.name, value)


LISTS = [(kind, about) for kind, about in FIELDS if about.metadata["type"] is tuple]


@pytest.mark.parametrize(("kind", "about"), LISTS, ids=[about.name for _, about in LISTS])
def test_several_integers_are_a_tuple_or_a_list_that_is_not_empty(kind, about):
    for value in ((1,), [1], (3, 1, 2), [16, 8]):
        assert getattr(kind(**{about.name: value}), about.name) == value
    for value in ((), [], (0,), [1, -1], (1, 1.5), (1, None), [[1]], ("1",), (True,), {1}, "1,2", 1):
        assert_refused(kind, about.name, value)


@pytest.mark.parametrize("text", ["1", "1,2", " 1, 2 "])
def test_a_text_of_numbers_between_commas_is_a_tuple(text):
    assert parse(tuple, text) == tuple(int(n) for n in text.split(","))


@pytest.mark.parametrize("text", ["", "1,", ",", "1;2", "1.5", "1 2", "one"])
def test_any_other_text_is_no_tuple(text):
    with pytest.raises(ValueError):
        parse(tuple, text)


def test_more_shards_than_the_batch_are_refused():
    assert TrainingOptions(batch=4, shards=4).shards == 4
    with pytest.raises(OptionError, match=r"^shards: expected at most the batch, 4, got 5$"):
        TrainingOptions(batch=4, shards=5)


@every_field
def test_true_is_no_number_and_none_stands_only_for_a_default_of_none(kind, about):
    if about.metadata["type"] is not bool:
        assert_refused(kind, about.name, True)
    if about.default is not None:
        assert_refused(kind, about.name, None)


@every_field
def test_a_flag_is_true_or_false_and_nothing_that_equals_them(kind, about):
    if about.metadata["type"] is bool:
        assert getattr(kind(**{about.name: True}), about.name) is True
        for value in (0, 1, None, "yes"):
            assert_refused(kind, about.name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_frozen_and_an_unknown_one_is_a_type_error(kind):
    with pytest.raises(TypeError, match="mood"):
        kind(mood=1)
    with pytest.raises(FrozenInstanceError):
        setattr(kind(), fields(kind)[0].name, 1)


# ---- the limits themselves

LOWEST_AND_HIGHEST = {
    "batch": ([1, 10**6], [0, -1, 1.0, 2.5]),
    "lr": ([1e-300, 1, 10.0], [0, 0.0, -1e-9, math.inf]),
    "warmup": ([0, 10**6], [-1, 0.5]),
    "clip": ([1e-300, 1e300], [0, -1.0]),
    "ema_decay": ([0, 0.0, 0.99999], [1, 1.0, -1e-9]),
    "label_drop": ([0, 0.1, 1, 1.0], [-1e-9, 1.0000001]),
    "times": (["uniform", "antithetic", "loss-aware"], ["random"]),
    "prediction": (["eps", "x0", "v"], ["noise"]),
    "weighting": (["simple", "min-snr", "p2", "bound"], ["heavy"]),
    "schedule": ([*schedules.SCHEDULES], ["sudden"]),
    "T": ([1, 4000], [0, 10.0]),
    "beta_start": ([None, 1e-9, 0.999], [0, 1]),
    "beta_end": ([None, 1e-9, 1, 1.0], [0, 1.0001]),
    "beta": ([None, 1e-9, 0.999], [0, 1]),
    "zero_terminal_snr": ([True, False], [1]),
    "net": ([None, *nn.NETWORKS], ["transformer"]),
    "width": ([None, 4, 512], [3, 8.0]),
    "classes": ([True, False], [10]),
    "learn_variance": ([True, False], [2]),
    "flip": ([True, False], [1]),
    "shards": ([1, 10**6], [0, 2.0]),
    "preset": ([None, "small", "ddpm-cifar10", "ddpm-256"], ["large"]),
    "multipliers": ([None, (1,), (1, 2, 4)], [(), (0,), (1, 1.5)]),
    "depth": ([None, 1, 9], [0, 1.5]),
    "attention": ([None, (16,), (512, 1)], [(), (0,), ("16",)]),
    "heads": ([None, 1, 8], [0, 1.5]),
    "groups": ([None, 1, 32], [0, 1.5]),
    "dropout": ([None, 0, 0.0, 0.999], [1, -0.1]),
}


@every_field
def test_the_limits_are_these(kind, about):
    allowed, refused = LOWEST_AND_HIGHEST[about.name]
    for value in allowed:
        assert getattr(with_value(kind, about.name, value), about.name) == value
    for value in refused:
        assert_refused(kind, about.name, value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (dict(batch=0), "batch: expected an integer ≥ 1, got 0"),
        (dict(lr=-1), "lr: expected a number > 0, got -1"),
        (dict(ema_decay=1), "ema_decay: expected a number ≥ 0 and < 1, got 1"),
        (dict(label_drop="1"), "label_drop: expected a number ≥ 0 and ≤ 1, got '1'"),
        (dict(prediction="e"), "prediction: expected one of eps, x0, v; got 'e'"),
    ],
    ids=str,
)
def test_an_error_has_the_setting_its_range_and_the_value(value, message):
    with pytest.raises(OptionError) as caught:
        TrainingOptions(**value)
    assert str(caught.value) == message


def test_a_new_setting_is_one_line():
    @dataclass(frozen=True)
    class Mine(Options):
        plain: list = None
        depth: int = setting(3, "blocks", at_least=1, at_most=8)
        flag: bool = setting(True, "whether")

    assert Mine(plain=[1]).plain == [1] and Mine(depth=8).depth == 8
    with pytest.raises(OptionError, match="depth: expected an integer ≥ 1 and ≤ 8, got 9"):
        Mine(depth=9)
    with pytest.raises(OptionError, match="flag: expected True or False, got 0"):
        Mine(flag=0)


# ---- schedules

BETAS = dict(beta_start=0.01, beta_end=0.4, beta=0.2)
OF_SCHEDULE = {
    "linear": {"beta_start", "beta_end"},
    "quadratic": {"beta_start", "beta_end"},
    "sigmoid": {"beta_start", "beta_end"},
    "constant": {"beta"},
    "cosine": set(),
}


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("names", [c for n in range(4) for c in itertools.combinations(BETAS, n)], ids=str)
@pytest.mark.parametrize("zero", [False, True], ids=["", "zero SNR"])
def test_a_schedule_takes_the_betas_that_it_has_and_refuses_others(schedule, names, zero):
    betas = {name: BETAS[name] for name in names}
    alien = [name for name in names if name not in OF_SCHEDULE[schedule]]
    if alien:
        with pytest.raises(OptionError, match=rf"^{alien[0]}: the {schedule} schedule has none$"):
            ScheduleOptions(schedule, T=7, zero_terminal_snr=zero, **betas)
        return
    built = ScheduleOptions(schedule, T=7, zero_terminal_snr=zero, **betas).build()
    expected = schedules.SCHEDULES[schedule](7, **betas)
    expected = schedules.zero_terminal_snr(expected) if zero else expected
    for name in ("beta", "alpha_bar"):
        np.testing.assert_array_equal(getattr(built, name), getattr(expected, name))
    assert (built.alpha_bar[-1] == 0) == zero


def test_the_default_schedule_is_that_of_the_paper():
    built, paper = ScheduleOptions().build(), schedules.linear(1000, 1e-4, 0.02)
    np.testing.assert_array_equal(built.beta, paper.beta)
