"""The record of a sampler: options as its function has them, and one entry makes it usable by name."""

import functools
import inspect

import numpy as np
import pytest

from minidiff import generation, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian
from minidiff.diffusion.samplers import SAMPLERS, SPACINGS, Sampler, State, ddim, explicit

SCHEDULE = schedules.linear(8, 0.05, 0.6)
DENOISER = Denoiser(Gaussian(0.5, 0.2).network(SCHEDULE), SCHEDULE)


def scaled_ddim(denoiser, x_T, rng, timesteps=None, scale: float = 1.0, quiet: bool = True):
    """DDIM from a scaled x_T."""
    yield from ddim(denoiser, scale * x_T, rng, explicit(denoiser.schedule.T, timesteps))


@pytest.mark.parametrize("name", SAMPLERS)
def test_options_are_the_parameters_of_the_function_after_the_first_four(name):
    record = SAMPLERS[name]
    parameters = list(inspect.signature(record.function).parameters.values())[4:]
    assert list(record.options) == [p.name for p in parameters]
    for parameter in parameters:
        option = record.options[parameter.name]
        assert option.default == parameter.default and isinstance(option.default, option.type)
        assert option.help, f"{name}: no help for {parameter.name}"
        assert not option.choices or option.default in option.choices
    assert record.spacing in SPACINGS


def test_the_type_of_an_option_is_that_of_its_hint_also_behind_a_partial():
    def function(denoiser, x_T, rng, timesteps=None, eta: float = 0, count=3):
        yield State(0, x_T, x_T)

    assert {name: o.type for name, o in Sampler(function).options.items()} == {"eta": float, "count": int}
    fixed = functools.partial(function, count=5)
    assert Sampler(fixed).options["count"].default == 5


def test_choices_are_those_of_the_literal_in_the_signature():
    assert SAMPLERS["ddpm"].options["variance"].choices == ("small", "large", "learned")
    assert SAMPLERS["unipc"].options["order"].choices == (1, 2, 3)
    assert SAMPLERS["ddim"].options["eta"].choices == ()


def test_one_entry_makes_a_sampler_usable_by_name(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "scaled", Sampler(scaled_ddim, steps=5, help={"scale": "factor of x_T"}))
    recipe = generation.Recipe("scaled", options={"scale": 2.0})
    assert recipe.times(SCHEDULE) == (8, 6, 5, 3, 2, 0) and recipe.nfe(SCHEDULE) == 5
    x = generation.generate(DENOISER, (1,), 4, np.random.default_rng(0), recipe)
    plain = generation.generate(DENOISER, (1,), 4, np.random.default_rng(0), generation.Recipe("scaled"))
    assert x.shape == (4, 1) and (x != plain).all()
    assert generation.for_nfe(3, SCHEDULE, "scaled").steps == 3
    with pytest.raises(ValueError, match=r"ddim has no option scale; it is an option of scaled$"):
        generation.Recipe("ddim", options={"scale": 2.0})


def test_a_bare_function_in_the_place_of_a_record_is_refused(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "scaled", scaled_ddim)
    with pytest.raises(TypeError, match=r"SAMPLERS\['scaled'\] = Sampler\(function\)"):
        generation.Recipe("scaled")


def without_timesteps(denoiser, x_T, rng):
    yield State(0, x_T, x_T)


def option_without_default(denoiser, x_T, rng, timesteps, mood):
    yield State(0, x_T, x_T)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"function": without_timesteps}, TypeError, "timesteps=None.*got a function of .denoiser, x_T, rng"),
        ({"function": option_without_default}, TypeError, "every option.*mood has none"),
        ({"function": scaled_ddim, "spacing": "even"}, ValueError, "trailing.*'even'"),
        ({"function": scaled_ddim, "steps": 0}, ValueError, "at least one step"),
        ({"function": scaled_ddim, "help": {"scael": "a slip"}}, ValueError, "scael, which is no option"),
    ],
    ids=["parameters", "default", "spacing", "steps", "help"],
)
def test_a_record_that_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Sampler(**arguments)
