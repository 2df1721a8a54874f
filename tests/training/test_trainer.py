"""The trainer: the same seed gives the same bits, an interruption changes nothing, and what it refuses."""

import copy
import itertools

import numpy as np
import pytest
from trainers import MAKERS, assert_same, on_images_with_everything_learned, on_points, through_a_file

from minidiff.training import trainer as trainer_module

# ---- the same bits


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make):
    first, second, other = make(), make(), make(seed=1)
    assert list(first.run(5)) == list(second.run(5)) != list(other.run(5))
    assert_same(first, second)


def test_three_steps_fill_the_history_of_the_loss_aware_trainer():
    trainer = on_images_with_everything_learned()
    list(trainer.run(3))
    assert not np.isnan(trainer.draw_times.history).any()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5, 6])
def test_training_resumed_from_a_file_continues_bit_for_bit(make, stop, tmp_path):
    """6 steps of batch 4 of 10 items (or 3 of 10, 3 of 5) end two epochs, some of them in the middle of a batch."""
    uninterrupted, stopped = make(), make()
    expected = list(uninterrupted.run(6))
    before = list(stopped.run(stop))
    resumed = make(seed=99)
    resumed.restore(through_a_file(stopped, tmp_path / "c.npz"))
    assert resumed.step == stop
    assert before + list(resumed.run(6)) == expected
    assert_same(resumed, uninterrupted)


@pytest.mark.parametrize("make", MAKERS)
def test_reading_the_state_does_not_change_training(make):
    read, untouched = make(), make()
    for _ in read.run(5):
        read.state()
    list(untouched.run(5))
    assert_same(read, untouched)


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_of_a_state_is_one_from_which_training_goes_on(make):
    trainer = make()
    list(trainer.run(2))
    state = copy.deepcopy(trainer.state())
    steps = list(trainer.run(6))
    trainer.restore(state)
    assert list(trainer.run(6)) == steps


def test_a_state_takes_no_memory_for_what_is_as_long_as_the_parameters():
    trainer = on_images_with_everything_learned()
    state = trainer.state()
    for name, vector in trainer._vectors().items():
        section, prefix = ("adam", f"{name}/") if name in ("first", "second") else (name, "")
        for key, array in state[section][1].items():
            assert np.shares_memory(array, vector) == key.startswith(prefix)


def test_the_state_has_named_sections_and_a_history_only_of_loss_aware_times():
    sections = {"parameters", "ema", "adam", "batches", "random"}
    assert set(on_points().state()) == sections
    state = on_images_with_everything_learned().state()
    assert set(state) == sections | {"loss-aware"}
    assert {name.split("/")[0] for name in state["adam"][1]} == {"first", "second"}


# ---- when to stop


def test_steps_are_the_total_and_a_finished_trainer_makes_none():
    trainer = on_points()
    assert [step.step for step in trainer.run(3)] == [1, 2, 3]
    assert [step.step for step in trainer.run(5)] == [4, 5]
    assert list(trainer.run(5)) == [] and trainer.step == 5


@pytest.mark.parametrize(("steps", "expected"), [(None, 6), (4, 4), (100, 6)])
def test_minutes_bound_the_loop_and_the_first_limit_counts(monkeypatch, steps, expected):
    clock = itertools.count(1000.0, 1.0)  # a second passes at every call
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(clock))
    # The end is 6.5 s after the first call; calls 2 to 7 are before it.
    assert len(list(on_points().run(steps, minutes=6.5 / 60))) == expected


def test_without_a_limit_training_does_not_begin():
    with pytest.raises(ValueError, match="steps, minutes or both"):
        next(on_points().run())


def test_leaving_the_loop_leaves_a_consistent_state():
    left, stopped = on_points(), on_points()
    for step in left.run(100):
        if step.step == 3:
            break
    list(stopped.run(3))
    assert_same(left, stopped)


# ---- what is refused


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 0},
        {"lr": 0.0},
        {"lr": np.nan},
        {"lr": -1.0},
        {"clip": 0.0},
        {"clip": np.nan},
        {"warmup": -1},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"times": "sometimes"},
        {"prediction": "noise"},
        {"weighting": "heavy"},
        {"label_drop": 1.1},
        {"label_drop": np.nan},
        {"labels": np.zeros(10, int)},
    ],
    ids=str,
)
def test_impossible_settings_are_refused_in_one_line(settings):
    with pytest.raises(ValueError) as caught:
        on_points(**settings)
    assert "\n" not in str(caught.value)


def without(section, name):
    return lambda state: [content.pop(name, None) for content in state[section]]


def without_section(section):
    return lambda state: state.pop(section)


def with_shape_of(section, name, shape):
    return lambda state: state[section][1].update({name: np.zeros(shape, np.float32)})


HARM = {
    "a parameter": without("parameters", "last.w"),
    "an average": without("ema", "hidden.0.b"),
    "a first moment": without("adam", "first/last.b"),
    "a second moment": without("adam", "second/last.w"),
    "the order": without("batches", "order"),
    "the index": without("batches", "index"),
    "the checksum": without("batches", "checksum"),
    "the step": without("adam", "step"),
    "the random state": without("random", "generator"),
    "a section parameters": without_section("parameters"),
    "a section ema": without_section("ema"),
    "a section adam": without_section("adam"),
    "a section batches": without_section("batches"),
    "a section random": without_section("random"),
    "another parameter": with_shape_of("parameters", "last.w", (8, 3)),
    "another second moment": with_shape_of("adam", "second/last.b", (1,)),
    "another order": with_shape_of("batches", "order", 11),
    "other data": lambda state: state["batches"][0].update(checksum=1),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_state_that_is_not_of_this_trainer_is_refused_in_one_line(harm):
    state = on_points().state()
    harm(state)
    with pytest.raises(ValueError) as caught:
        on_points().restore(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "harm",
    [without_section("loss-aware"), with_shape_of("loss-aware", "history", (3, 10))],
    ids=["no", "other"],
)
def test_a_state_without_the_history_of_its_losses_is_refused(harm):
    state = on_images_with_everything_learned().state()
    harm(state)
    with pytest.raises(ValueError, match=r"loss-aware|history"):
        on_images_with_everything_learned().restore(state)
