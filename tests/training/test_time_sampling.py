"""How the times of a training batch are drawn: uniform, antithetic, loss-aware (V9 in properties/test_objective.py)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.training.objectives import TIMES, LossAware, antithetic_times, uniform_times

seeds = st.integers(0, 2**32 - 1)


def test_uniform_antithetic_and_loss_aware_times_are_registered():
    assert set(TIMES) == {"uniform", "antithetic", "loss-aware"}
    assert (TIMES["uniform"](9), TIMES["antithetic"](9)) == (uniform_times, antithetic_times)
    assert isinstance(TIMES["loss-aware"](9), LossAware) and TIMES["loss-aware"](9).history.shape == (9, 10)


@pytest.mark.parametrize("name", TIMES)
def test_a_schedule_of_one_time_and_a_batch_of_one_are_drawn_too(name):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(TIMES[name](1)(rng, 1, 5), np.ones(5))
    assert TIMES[name](9)(rng, 9, 1).shape == (1,)


@pytest.mark.parametrize("name", TIMES)
@given(seed=seeds, T=st.integers(1, 12), batch=st.integers(1, 9))
def test_every_drawn_time_is_an_integer_from_1_to_T(name, seed, T, batch):
    t = TIMES[name](T)(np.random.default_rng(seed), T, batch)
    assert t.shape == (batch,) and t.dtype.kind == "i" and t.min() >= 1 and t.max() <= T


def test_two_trainers_have_no_history_of_losses_in_common():
    first, second = TIMES["loss-aware"](3), TIMES["loss-aware"](3)
    first.record(np.array([1]), np.array([2.0]))
    assert np.isnan(second.history).all() and not np.isnan(first.history).all()


# ---- loss-aware times


def full_history(T=5, seed=0):
    aware = LossAware(T)
    rng = np.random.default_rng(seed)
    for _ in range(LossAware.KEPT):
        aware.record(np.arange(1, T + 1), rng.random(T) * np.arange(1, T + 1))
    return aware


def test_until_each_time_has_ten_losses_the_times_are_uniform():
    aware = LossAware(5)
    for _ in range(9):
        aware.record(np.arange(1, 6), np.arange(5.0))
    aware.record(np.arange(1, 5), np.arange(4.0))
    np.testing.assert_allclose(aware.probabilities(), 0.2)
    np.testing.assert_allclose(aware.weights(np.array([1, 5])), 1)
    aware.record(np.array([5]), np.array([9.0]))
    assert aware.probabilities()[4] > 0.3


def test_probabilities_are_proportional_to_the_rms_of_the_losses():
    aware = full_history()
    root = np.sqrt((aware.history**2).mean(axis=1))
    np.testing.assert_allclose(aware.probabilities(), 0.999 * root / root.sum() + 0.0002, rtol=1e-12)
    aware.history *= 1e-6  # only the proportion counts, however small the losses
    np.testing.assert_allclose(aware.probabilities(), 0.999 * root / root.sum() + 0.0002, rtol=1e-12)
    t = aware(np.random.default_rng(0), 5, 100_000)
    assert t.min() == 1 and t.max() == 5
    np.testing.assert_allclose(np.bincount(t)[1:] / 1e5, aware.probabilities(), atol=0.005)


@given(seeds)
def test_the_weighted_mean_over_these_times_is_the_mean_over_uniform_ones(seed):
    aware, losses = full_history(seed=seed), np.random.default_rng(seed).standard_normal(5)
    t = np.arange(1, 6)
    assert aware.probabilities().sum() == pytest.approx(1, rel=1e-12)
    assert (aware.probabilities() * aware.weights(t) * losses).sum() == pytest.approx(losses.mean(), rel=1e-9)


def test_the_last_ten_losses_are_kept_in_order_even_of_a_repeated_time():
    aware = LossAware(2)
    aware.record(np.array([2, 2, 1]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(aware.history[1, -2:], [1, 2])
    np.testing.assert_array_equal(aware.history[0, -1:], [3])
    assert np.isnan(aware.history[:, :8]).all()
    aware.record(np.full(12, 1), np.arange(12.0))
    np.testing.assert_array_equal(aware.history[0], np.arange(2.0, 12))


def test_record_needs_a_loss_for_each_time():
    with pytest.raises(ValueError):
        LossAware(3).record(np.array([1, 2, 3]), np.ones(2))


def test_where_all_losses_are_zero_the_times_are_uniform():
    aware = LossAware(3)
    for _ in range(10):
        aware.record(np.array([1, 2, 3]), np.zeros(3))
    np.testing.assert_allclose(aware.probabilities(), 1 / 3)
