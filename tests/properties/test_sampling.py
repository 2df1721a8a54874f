"""The samplers DDPM and DDIM, and the 1-D mixture (EQUATIONS.md S2–S5, S7)."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close, gentle_schedule

from minidiff import schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian, mixture1d
from minidiff.diffusion.samplers import ddim, ddpm, final, initial_noise
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps
from minidiff.diffusion.samplers.ddim import steps as ddim_steps


@st.composite
def any_times(draw, T):
    """Any list of times that falls strictly from some t ≤ T to 0."""
    chosen = draw(st.sets(st.integers(1, T), min_size=1, max_size=12))
    return (*sorted(chosen, reverse=True), 0)


@given(gentle_schedule(min_T=2), st.sampled_from(["small", "large"]))
def test_S2_the_last_step_adds_no_noise_and_returns_the_predicted_x0(schedule, variance):
    last = ddpm_steps(schedule, variance=variance)[-1]
    assert last.s == 0 and last.sigma == 0 and last.x == 0
    assert_close(last.x0, 1.0)


@given(gentle_schedule(min_T=2))
def test_S2_the_noise_of_a_step_is_scaled_by_the_standard_deviation(schedule):
    for small, large in zip(ddpm_steps(schedule)[:-1], ddpm_steps(schedule, variance="large"), strict=False):
        assert_close(small.sigma**2, schedule.posterior_variance[small.t])
        assert_close(large.sigma**2, schedule.beta[large.t])


def test_S2_erratum_a_variance_for_the_standard_deviation_loses_the_data_variance():
    schedule, data = schedules.linear(), Gaussian([0.0], [[1.0]])
    right = ddpm_steps(schedule, variance="large")
    wrong = [step._replace(sigma=step.sigma**2) for step in right]
    assert data.outcome(schedule, right)[1].item() == pytest.approx(1.0, abs=1e-3)
    assert data.outcome(schedule, wrong)[1].item() < 0.01


@given(gentle_schedule(min_T=2), st.data())
def test_S2_small_is_exact_for_a_single_point_and_large_for_standard_normal_data(schedule, data):
    times = data.draw(any_times(schedule.T))
    point, normal = Gaussian([0.3], [[0.0]]), Gaussian([0.0], [[1.0]])
    for oracle, variance in ((point, "small"), (normal, "large")):
        plan = ddpm_steps(schedule, times, variance)[:-1]
        mean, covariance = oracle.outcome(schedule, plan, *oracle.marginal(schedule, times[0]))
        expected_mean, expected_covariance = oracle.marginal(schedule, times[-2])
        assert_close(mean, expected_mean, 1.0)
        assert_close(covariance, expected_covariance, 1.0)


@given(any_schedule(min_T=2, extreme=8.0), st.data(), st.floats(0, 1))
def test_S3_the_step_is_the_published_equation(schedule, data, eta):
    t, s, *_ = data.draw(any_times(schedule.T).filter(lambda times: len(times) > 2))
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    assume(alpha_bar_t > 1e-9)
    noise_t, noise_s = schedule.one_minus_alpha_bar[t], schedule.one_minus_alpha_bar[s]
    sigma2 = eta**2 * noise_s / noise_t * schedule.kernel(s, t)[1]
    from_eps = np.sqrt(max(noise_s - sigma2, 0)) - np.sqrt(alpha_bar_s * noise_t / alpha_bar_t)
    step, _ = ddim_steps(schedule, (t, s, 0), eta)[:2]
    # with x̂_0 = (x_t − √(1−ᾱ_t) ε̂)/√ᾱ_t substituted
    assert_close(step.x + step.x0 / np.sqrt(alpha_bar_t), np.sqrt(alpha_bar_s / alpha_bar_t))
    got = step.eps - step.x0 * np.sqrt(noise_t / alpha_bar_t)
    # the equation as printed subtracts under the root, which costs half of the digits near η = 1
    assert_close(got, from_eps, 1.0, tolerance=1e-12 if noise_s - sigma2 > 1e-3 * noise_s else 1e-7)
    assert_close(step.sigma**2, sigma2)


@given(any_schedule(min_T=2), st.data(), st.floats(0, 1))
def test_S3_the_step_keeps_the_marginal_of_every_x0_for_every_eta(schedule, data, eta):
    times = data.draw(any_times(schedule.T))
    for step in ddim_steps(schedule, times, eta):
        assert_close(step.x0**2, schedule.alpha_bar[step.s])
        assert_close(step.eps**2 + step.sigma**2, schedule.one_minus_alpha_bar[step.s])


@given(gentle_schedule(min_T=2), st.data(), st.floats(0, 1), st.floats(-2, 2))
def test_S3_marginals_are_kept_along_the_whole_trajectory_when_x0_is_known(schedule, data, eta, mean):
    times = data.draw(any_times(schedule.T))
    point = Gaussian([mean], [[0.0]])
    plan = ddim_steps(schedule, times, eta)
    for k, t in enumerate(times):
        got_mean, got_variance = point.outcome(schedule, plan[:k], *point.marginal(schedule, times[0]))
        expected_mean, expected_variance = point.marginal(schedule, t)
        assert_close(got_mean, expected_mean, 1.0)
        assert_close(got_variance, expected_variance, 1.0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_S3_on_gaussian_data_the_samples_converge_to_the_data_for_every_eta(eta):
    data = Gaussian([0.3, -0.2], [[0.5, 0.2], [0.2, 0.1]])

    def error(T):
        schedule = schedules.linear(T, 0.1 / T, 20 / T)
        mean, covariance = data.outcome(schedule, ddim_steps(schedule, eta=eta))
        return np.abs(mean - data.mean).max() + np.abs(covariance - data.covariance).max()

    assert error(4000) < 0.01
    assert error(4000) < error(1000) / 2 < error(250) / 4


@given(any_schedule())
def test_S4_at_eta_1_the_coefficients_of_single_steps_are_those_of_ddpm(schedule):
    kept = schedule.alpha_bar > 1e-12
    times = np.flatnonzero(kept)[::-1]
    for p, q in zip(ddim_steps(schedule, times, 1.0), ddpm_steps(schedule, times), strict=True):
        signal, sigma = np.sqrt(schedule.alpha_bar[p.t]), np.sqrt(schedule.one_minus_alpha_bar[p.t])
        # x_t = √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂ substituted into DDPM's step
        assert_close(q.x * signal + q.x0, p.x0)
        assert_close(q.x * sigma, p.eps)
        assert_close(q.sigma, p.sigma)


@given(any_schedule(max_T=200))
def test_S4_at_eta_1_ddim_is_ddpm_sample_by_sample(schedule):
    assume(schedule.alpha_bar[-1] > 1e-3)
    denoiser = Denoiser(mixture1d().network(schedule), schedule)
    x_T = initial_noise(np.random.default_rng(0), (5, 1), np.float64)
    one = ddim(denoiser, x_T, np.random.default_rng(7), eta=1.0)
    other = ddpm(denoiser, x_T, np.random.default_rng(7))
    for p, q in zip(one, other, strict=True):
        assert p.t == q.t
        # later steps amplify the rounding errors of earlier ones, the more so in a narrow mixture
        assert_close(p.x, q.x, 1.0, tolerance=1e-8)


def test_S4_at_eta_1_ddim_on_the_schedule_of_the_paper_is_ddpm_to_1e_12():
    schedule = schedules.linear()
    denoiser = Denoiser(Gaussian([0.1, 0.2], [[0.5, 0.1], [0.1, 0.2]]).network(schedule), schedule)
    x_T = initial_noise(np.random.default_rng(0), (5, 2), np.float64)
    one = ddim(denoiser, x_T, np.random.default_rng(7), eta=1.0)
    for p, q in zip(one, ddpm(denoiser, x_T, np.random.default_rng(7)), strict=True):
        assert_close(p.x, q.x, 1.0)


def test_S4_at_eta_0_ddim_draws_no_noise_and_is_independent_of_the_generator():
    schedule = schedules.linear(100)
    denoiser = Denoiser(mixture1d().network(schedule), schedule)
    x_T = initial_noise(np.random.default_rng(0), (5, 1))
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    samples = final(ddim(denoiser, x_T, rng))
    assert rng.bit_generator.state == before
    assert np.array_equal(samples, final(ddim(denoiser, x_T, np.random.default_rng(2))))


def test_S5_the_1d_gaussian_mixture():
    data = mixture1d()
    x = data.sample(np.random.default_rng(0), 100_000)[:, 0]
    for weight, mean, sigma in ((0.3, 0.5, 0.01), (0.4, 0.1, 0.03), (0.3, -0.4, 0.01)):
        peak = x[np.abs(x - mean) < 0.15]
        error = sigma / np.sqrt(len(peak))
        assert len(peak) / len(x) == pytest.approx(weight, abs=5 * np.sqrt(weight * (1 - weight) / len(x)))
        assert peak.mean() == pytest.approx(mean, abs=5 * error)
        assert peak.std() == pytest.approx(sigma, abs=5 * error)


def test_S7_the_previous_time_is_the_next_entry_of_any_list_of_times():
    schedule = schedules.linear()
    times = (981, 700, 699, 3, 0)
    for plan in (ddpm_steps(schedule, times), ddim_steps(schedule, times)):
        assert [(step.t, step.s) for step in plan] == list(pairwise(times))
