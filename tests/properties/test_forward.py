"""The forward process (EQUATIONS.md F1–F9)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close

from minidiff import noising, schedules
from minidiff.diffusion.oracles import Gaussian
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps

seeds = st.integers(0, 2**32 - 1)


@given(any_schedule(), st.data(), seeds)
def test_F1_one_step_keeps_sqrt_alpha_of_x_and_adds_variance_beta(schedule, data, seed):
    t = data.draw(st.integers(1, schedule.T))
    x, z = np.random.default_rng(seed).standard_normal((2, 4, 3))
    beta = schedule.beta[t]
    assert_close(noising.step(schedule, x, t, np.zeros_like(x)), np.sqrt(1 - beta) * x)
    assert_close(noising.step(schedule, np.zeros_like(x), t, z), np.sqrt(beta) * z)
    both = noising.step(schedule, x, t, z)
    assert_close(both, np.sqrt(1 - beta) * x + np.sqrt(beta) * z, scale=np.abs(x) + np.abs(z))


def test_F2_the_schedule_of_the_paper_is_linear_from_1e_4_to_2e_2_over_1000_steps():
    schedule = schedules.linear()
    assert schedule.T == 1000 and len(schedule.beta) == 1001
    assert schedule.beta[0] == 0 and schedule.beta[1] == 1e-4 and schedule.beta[-1] == 0.02
    assert_close(np.diff(schedule.beta[1:]), (0.02 - 1e-4) / 999, scale=0.02)
    assert schedule.alpha_bar[-1] == pytest.approx(4.03583e-5, rel=1e-5)


def test_F2_erratum_an_upper_end_of_2_to_the_minus_2_is_noise_before_step_300():
    right, printed = schedules.linear(), schedules.linear(beta_end=2**-2)
    is_noise = right.alpha_bar[-1]
    assert np.argmax(printed.alpha_bar < is_noise) < 300
    assert printed.alpha_bar[-1] < 1e-50


def test_F2_erratum_of_2000_steps_about_30_percent_lie_beyond_the_noise_of_1000():
    longer = schedules.linear(2000)
    assert 0.2 < np.mean(longer.alpha_bar < schedules.linear().alpha_bar[-1]) < 0.4


@given(any_schedule(min_T=2), st.data())
def test_F3_any_two_successive_kernels_compose_to_one_kernel(schedule, data):
    r = data.draw(st.integers(0, schedule.T - 2))
    s = data.draw(st.integers(r + 1, schedule.T - 1))
    t = data.draw(st.integers(s + 1, schedule.T))
    first_alpha, first_beta = schedule.kernel(r, s)
    then_alpha, then_beta = schedule.kernel(s, t)
    alpha, beta = schedule.kernel(r, t)
    assert_close(alpha, first_alpha * then_alpha)
    assert_close(beta, then_alpha * first_beta + then_beta)


@given(any_schedule(min_T=2), st.data())
def test_F3_two_single_steps_have_variance_one_minus_the_product_of_their_alphas(schedule, data):
    t = data.draw(st.integers(2, schedule.T))
    one, zero = np.ones(1), np.zeros(1)

    def two(x, z_before, z):
        return noising.step(schedule, noising.step(schedule, x, t - 1, z_before), t, z)

    alpha, beta = schedule.kernel(t - 2, t)
    assert_close(two(one, zero, zero), np.sqrt(alpha))
    assert_close(two(zero, one, zero) ** 2 + two(zero, zero, one) ** 2, beta)


@given(any_schedule(), seeds)
def test_F4_the_jump_equals_t_single_steps(schedule, seed):
    x0 = np.random.default_rng(seed).standard_normal((1, 3))
    mean, variance = x0, 0.0
    zero = np.zeros_like(x0)
    for t in range(1, schedule.T + 1):
        mean = noising.step(schedule, mean, t, zero)
        variance = schedule.alpha[t] * variance + schedule.beta[t]
        jump_mean, jump_variance = noising.marginal(schedule, x0, t)
        assert_close(variance, jump_variance)
        if t in (1, schedule.T // 2, schedule.T):
            # log ᾱ is good to 1e-12 of its own size, and ᾱ may be too small for a float
            scale = np.abs(jump_mean) * max(1, -schedule.log_alpha_bar[t])
            assert_close(mean, jump_mean, scale + 1e-100)
            assert_close(noising.diffuse(schedule, zero, t, zero + 1.0) ** 2, jump_variance)


@given(any_schedule(), st.data())
def test_F4_a_step_after_the_jump_is_the_next_jump(schedule, data):
    t = data.draw(st.integers(1, schedule.T))
    x0 = np.array([[0.7, -1.3]])
    mean, variance = noising.marginal(schedule, x0, t - 1)
    next_mean, next_variance = noising.marginal(schedule, x0, t)
    assert_close(noising.step(schedule, mean, t, np.zeros_like(x0)), next_mean, scale=1e-100)
    assert_close(schedule.alpha[t] * variance + schedule.beta[t], next_variance)


def test_F4_errata_a_product_up_to_T_or_from_index_0_gives_another_marginal():
    schedule = schedules.linear()
    to_T = np.full(1001, np.prod(schedule.alpha[1:]))
    assert np.max(np.abs(to_T - schedule.alpha_bar)) > 0.99
    # A product with one more α at the left, a common mistake with lists counted from 0, is late by one step.
    late = np.cumprod(np.append(schedule.alpha[1], schedule.alpha[1:]))
    assert np.max(np.abs(np.log(late) - schedule.log_alpha_bar)) == pytest.approx(1e-4, rel=1e-3)


@given(any_schedule())
def test_F5_data_of_variance_one_keep_variance_one(schedule):
    t = np.arange(schedule.T + 1)
    ones, zeros = np.ones(len(t)), np.zeros(len(t))
    signal = noising.diffuse(schedule, ones, t, zeros)
    sigma = noising.diffuse(schedule, zeros, t, ones)
    assert_close(signal**2 + sigma**2, 1.0)


def test_F5_erratum_a_squared_alpha_bar_adds_up_to_a_quarter_of_variance():
    alpha_bar = schedules.linear().alpha_bar
    variance = alpha_bar + (1 - alpha_bar**2)
    assert np.max(variance) == pytest.approx(1.25, abs=1e-4)
    assert alpha_bar[np.argmax(variance)] == pytest.approx(0.5, abs=0.01)


def test_F5_erratum_in_sampling_or_in_both_the_variance_is_more_than_doubled():
    """Variance of DDPM samples, with the erratum, over that of N(0.3, 0.05²) data: the recursion of O3, exact ε."""
    schedule, mean, variance = schedules.linear(), 0.3, 0.05**2
    right = np.sqrt(schedule.one_minus_alpha_bar)
    wrong = np.sqrt(1 - schedule.alpha_bar**2)

    def variance_ratio(trained, sampled):
        samples = 1.0
        for step in ddpm_steps(schedule):
            alpha_bar, alpha, beta = (a[step.t] for a in (schedule.alpha_bar, schedule.alpha, schedule.beta))
            # E[ε | x_t] per unit of x_t
            learned = trained[step.t] / (alpha_bar * variance + trained[step.t] ** 2)
            samples *= (1 - beta / sampled[step.t] * learned) ** 2 / alpha
            samples += step.sigma**2
        return samples / variance

    assert variance_ratio(right, right) == pytest.approx(0.857, abs=1e-3)  # the chain's own error at T = 1000
    assert variance_ratio(right, right) * variance == pytest.approx(
        Gaussian([mean], [[variance]]).outcome(schedule, ddpm_steps(schedule))[1].item()
    )
    assert variance_ratio(right, wrong) == pytest.approx(2.107, abs=1e-3)
    assert variance_ratio(wrong, right) == pytest.approx(1.046, abs=1e-3)
    assert variance_ratio(wrong, wrong) == pytest.approx(3.700, abs=1e-3)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_F6_every_shipped_schedule_ends_in_noise(name):
    assert _nats_from_noise(schedules.SCHEDULES[name]()) < 1e-3


@pytest.mark.parametrize("T", [10, 50, 100, 4000])
def test_F6_cosine_ends_in_noise_at_any_length(T):
    assert _nats_from_noise(schedules.cosine(T)) < 1e-3


def test_F6_the_range_of_the_paper_over_50_steps_never_reaches_noise():
    short = schedules.linear(50)
    assert short.alpha_bar[-1] > 0.6 and _nats_from_noise(short) > 0.3
    assert "T=50" in repr(short) and "0.603" in repr(short)


@given(any_schedule())
def test_F7_signal_falls_and_noise_rises(schedule):
    assert np.all(np.diff(schedule.alpha_bar) <= 0) and schedule.alpha_bar[0] == 1
    assert np.all(np.diff(schedule.one_minus_alpha_bar) >= 0) and schedule.one_minus_alpha_bar[0] == 0
    assert np.all(np.diff(schedule.log_snr) <= 0)


@pytest.mark.parametrize("name", ["linear", "quadratic", "sigmoid", "cosine"])
def test_F7_where_beta_grows_alpha_falls(name):
    schedule = schedules.SCHEDULES[name]()
    assert np.all(np.diff(np.sqrt(schedule.alpha)) <= 0)
    assert np.all(np.diff(np.sqrt(schedule.beta)) >= 0)


@given(any_schedule(max_T=50), seeds, st.sampled_from([(), (3,), (2, 2, 1)]))
def test_F8_one_call_noises_a_batch_with_individual_times(schedule, seed, shape):
    rng = np.random.default_rng(seed)
    x0, noise = rng.standard_normal((2, 7, *shape))
    t = rng.integers(0, schedule.T + 1, size=7)
    together = noising.diffuse(schedule, x0, t, noise)
    one_by_one = [noising.diffuse(schedule, x0[i : i + 1], int(t[i]), noise[i : i + 1]) for i in range(7)]
    assert np.array_equal(together, np.concatenate(one_by_one))


@given(any_schedule(), st.floats(0, 100))
def test_F9_the_variance_of_x_t_lies_between_that_of_the_data_and_one(schedule, data_variance):
    t = np.arange(schedule.T + 1)
    signal, noise = noising.marginal(schedule, np.ones(len(t)), t)
    variance = signal**2 * data_variance + noise
    low, high = min(data_variance, 1), max(data_variance, 1)
    assert np.all((variance >= low * (1 - 1e-12)) & (variance <= high * (1 + 1e-12)))


def _nats_from_noise(schedule):
    """KL(q(x_T | x_0) ‖ N(0, 1)) per dimension at x_0 = 1, the upper end of the range of an image."""
    noise = schedule.one_minus_alpha_bar[-1]
    return 0.5 * (schedule.alpha_bar[-1] + noise - 1 - np.log(noise))
